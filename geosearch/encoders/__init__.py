"""Items → vectors: one file a family, one registry of named models; knows no database."""
