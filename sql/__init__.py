"""The in-database half: numbered, idempotent SQL files, one subject each."""
