"""Alembic: tables and data only; functions, views and grants come from sql/."""
