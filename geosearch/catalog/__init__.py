"""Sources → image rows: one reader a source, one staged upsert for all of them."""
