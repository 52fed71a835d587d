"""Query → Ranking: what a user asks, answered by the database."""
