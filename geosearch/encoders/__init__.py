"""Items → vectors: one file a family, one registry of named models. Nothing here knows a database."""
