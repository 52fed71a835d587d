#!/bin/sh
# Runs once, when the volume is new: the role that owns the database and is no superuser, and what only a superuser
# may make for it. Tables, functions and views come from `geosearch db migrate`.
set -eu
psql --set ON_ERROR_STOP=1 --set password="$GEOSEARCH_PASSWORD" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
create role geosearch_admin nologin;
create role geosearch_ingest nologin;
create role geosearch_ask nologin;
create role geosearch_read nologin;
create role geosearch login createrole password :'password';
grant geosearch_admin, geosearch_ingest, geosearch_ask, geosearch_read to geosearch with admin option;
create database geosearch owner geosearch template template0 encoding 'UTF8';
\connect geosearch
create extension postgis;
create extension vector;
SQL
