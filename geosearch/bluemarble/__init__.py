"""NASA's Blue Marble as a planet to photograph: its ground at any place, cameras, weather, and tiles over all land."""
