-- The four groups and what they may do with the schema's tables. Roles belong to the whole server, not to this
-- database: they are made once and never dropped here.
do $$
declare
    role text;
begin
    foreach role in array array['geosearch_admin', 'geosearch_ingest', 'geosearch_ask', 'geosearch_read'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = role) then
            begin
                execute format('create role %I nologin', role);
            exception
                when duplicate_object or unique_violation then
                    null;  -- another database of this server was migrated at the same moment
                when insufficient_privilege then
                    raise insufficient_privilege using
                        message = format('role %s does not exist and %s may not create it', role, current_user),
                        hint = 'Let a superuser run: create role geosearch_admin nologin; '
                               'create role geosearch_ingest nologin; create role geosearch_ask nologin; '
                               'create role geosearch_read nologin;';
            end;
        end if;
    end loop;
end $$;

-- Grants name every group rather than make one a member of another: membership may only be granted by whom
-- PostgreSQL 16 and later call an admin of the role, and several databases share these roles.
grant usage on schema geosearch to geosearch_admin, geosearch_ingest, geosearch_ask, geosearch_read;
revoke all on all tables in schema geosearch from geosearch_admin, geosearch_ingest, geosearch_read;
grant select on all tables in schema geosearch to geosearch_admin, geosearch_ingest, geosearch_read;

grant insert, update, delete on geosearch.archive, geosearch.image, geosearch.reject, geosearch.model
    to geosearch_admin;
grant update (active, model_id) on geosearch.space to geosearch_admin;
grant insert, update on geosearch.archive, geosearch.model to geosearch_ingest;
grant insert, update, delete on geosearch.image, geosearch.reject to geosearch_ingest;
grant usage on sequence geosearch.version_seq to geosearch_admin, geosearch_ingest;
grant insert, delete on geosearch.location_weight to geosearch_admin;
-- Who writes vectors keeps the places that they were made with, and their moments.
grant insert, update, delete on
    geosearch.embedded_place, geosearch.moments, geosearch.moments_row, geosearch.moments_axis
    to geosearch_admin, geosearch_ingest;

-- Vector tables that are already there; create_space sees to later ones.
do $$
declare
    relation regclass;
begin
    for relation in
        select c.oid from geosearch.space s
        join pg_catalog.pg_class c on c.relname = 'space_' || s.name and c.relnamespace = 'geosearch'::regnamespace
    loop
        execute format('grant insert, update, delete on %s to geosearch_admin, geosearch_ingest', relation);
    end loop;
end $$;

-- Banks are filled by admins. What was computed from them is written by whoever computes it, who also notes when.
grant update (stored_at, stored_changes, stored_with) on geosearch.bank to geosearch_admin, geosearch_ingest;
do $$
declare
    relation record;
begin
    for relation in
        select c.oid::regclass as named, c.relname like '%\_stored' as stored
        from geosearch.bank b
        join pg_catalog.pg_class c on c.relnamespace = 'geosearch'::regnamespace and c.relkind = 'r'
            and c.relname in ('bank_' || b.name, 'bank_' || b.name || '_values', 'range_' || b.name || '_stored')
    loop
        execute format('grant insert, update, delete, truncate on %s to %s', relation.named,
                       case when relation.stored then 'geosearch_admin, geosearch_ingest' else 'geosearch_admin' end);
    end loop;
end $$;

-- Questions. An asker inserts the columns of the question and nothing else; sql/60_queries.sql says whose rows anybody
-- sees. Workers are members of geosearch_ingest. Of the other tables an asker reads what the views of answers show and
-- what tells a client the release.
revoke all on
    geosearch.archive, geosearch.image, geosearch.space, geosearch.model, geosearch.reject, geosearch.query,
    geosearch.ranking, geosearch.location_weight, geosearch.bank, geosearch.change, geosearch.moments,
    geosearch.moments_row, geosearch.moments_axis, geosearch.embedded_place, geosearch.installed_sql,
    geosearch.alembic_version
    from geosearch_ask;
grant select on
    geosearch.archive, geosearch.image, geosearch.space, geosearch.model, geosearch.query, geosearch.ranking,
    geosearch.installed_sql, geosearch.alembic_version
    to geosearch_ask;
grant insert (
    text, image, image_uri, "like", near, radius_m, k, lambda, archive, captured_from, captured_to, among, space,
    strategy) on geosearch.query to geosearch_ask;
grant delete on geosearch.query to geosearch_ask, geosearch_admin;
grant update (state, attempts, killed, worker, started_at, answered_at, reason, answers, searched_space, model, lambda)
    on geosearch.query to geosearch_admin, geosearch_ingest;
grant insert, delete on geosearch.ranking to geosearch_admin, geosearch_ingest;
