"""Connections, the embedded server, tables, spaces, and the installation of sql/."""
