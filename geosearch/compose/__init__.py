"""WeiCom: composed retrieval, images and texts in one question (arXiv 2405.15587). Knows no database."""
