"""Images that have no vector in a space → vectors."""
