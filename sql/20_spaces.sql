-- Spaces: one typed table of vectors each. The functions run with the rights of the schema's owner, so that every
-- table belongs to whom migrations run as, whoever of the admins made it. Hence `pg_catalog.format`: a function of that
-- name in the extensions' schema, where others may be allowed to make some, would suit some calls better and win.
drop function if exists geosearch.create_space;
drop function if exists geosearch.drop_space;

create function geosearch.create_space(
    name text, dimension int, model text default null, metric text default 'cosine', embeds text default 'image')
returns int
language plpgsql
security definer
set search_path from current
as $$
declare
    model_row geosearch.model;
    space_id int;
begin
    if name is null or name !~ '^[a-z][a-z0-9_]{0,40}$' then
        raise invalid_parameter_value using
            message = pg_catalog.format('%L cannot name a space', name),
            hint = 'Use a letter, then letters, digits and underscores, lower case, at most 41 in all.';
    elsif dimension is null or dimension not between 1 and 16000 then
        raise invalid_parameter_value using
            message = pg_catalog.format('a space cannot have %s dimensions', coalesce(dimension::text, 'null')),
            hint = 'Give a number between 1 and 16000.';
    elsif metric is distinct from 'cosine' then
        raise invalid_parameter_value using
            message = pg_catalog.format('no metric is named %L', metric), hint = 'The metric of every space is cosine.';
    elsif embeds is distinct from 'image' then
        raise invalid_parameter_value using
            message = pg_catalog.format('a space cannot embed %L', embeds), hint = 'A space embeds image.';
    elsif exists (select from geosearch.space s where s.name = create_space.name) then
        raise duplicate_object using
            message = pg_catalog.format('there is a space %s already', name),
            hint = 'Choose another name, or drop it first: geosearch space drop, or select geosearch.drop_space(name).';
    end if;
    if model is not null then
        select m.* into model_row from geosearch.model m where m.name = create_space.model;
        if not found then
            raise undefined_object using
                message = pg_catalog.format('no model is named %L', model),
                hint = 'Models: ' || coalesce((select string_agg(m.name, ', ' order by m.name) from geosearch.model m),
                                              'none yet') || '.';
        elsif model_row.dimension <> create_space.dimension then
            raise invalid_parameter_value using
                message = pg_catalog.format('model %s makes vectors of %s dimensions, not %s',
                                            model, model_row.dimension, dimension),
                hint = 'Give the dimension of the model.';
        end if;
    end if;

    insert into geosearch.space (name, model_id, dimension, metric, embeds, layout_version)
    values (name, model_row.id, dimension, metric, embeds, 1)
    returning id into space_id;
    execute pg_catalog.format(
        'create table geosearch.%1$I (
            image_id bigint not null,
            content_sha256 bytea,
            embedding halfvec(%2$s) not null,
            embedded_at timestamptz not null default now(),
            constraint %3$I primary key (image_id),
            constraint %4$I foreign key (image_id) references geosearch.image (id) on delete cascade,
            -- A vector of length 0 has no direction, hence no cosine.
            constraint %5$I check (l2_norm(embedding) > 0)
        )', 'space_' || name, dimension, 'space_' || name || '_pkey', 'space_' || name || '_image_id_fkey',
        'space_' || name || '_embedding_check');
    -- Inline while a row fits a page (8 kB): a scan that must fetch every vector from elsewhere takes nine times longer.
    execute pg_catalog.format('alter table geosearch.%I alter column embedding set storage %s',
        'space_' || name, case when dimension <= 3900 then 'plain' else 'external' end);
    execute pg_catalog.format('comment on table geosearch.%I is %L', 'space_' || name,
        pg_catalog.format('The vectors of space %s; made by geosearch.create_space, removed by drop_space.', name));
    execute pg_catalog.format('comment on column geosearch.%I.image_id is %L', 'space_' || name, 'The image.');
    execute pg_catalog.format('comment on column geosearch.%I.content_sha256 is %L', 'space_' || name,
        'SHA-256 of the pixels that were embedded.');
    execute pg_catalog.format('comment on column geosearch.%I.embedding is %L', 'space_' || name,
        'The vector, in half precision.');
    execute pg_catalog.format('comment on column geosearch.%I.embedded_at is %L', 'space_' || name, 'When.');
    execute pg_catalog.format('grant select on geosearch.%I to geosearch_admin, geosearch_ingest, geosearch_read',
        'space_' || name);
    execute pg_catalog.format('grant insert, update, delete on geosearch.%I to geosearch_admin, geosearch_ingest',
        'space_' || name);
    return space_id;
end $$;
comment on function geosearch.create_space is
    'Makes a space and its table space_<name>, and returns the id of the space. For admins.';

create function geosearch.drop_space(name text)
returns void
language plpgsql
security definer
set search_path from current
as $$
begin
    delete from geosearch.space s where s.name = drop_space.name;
    if not found then
        raise undefined_object using
            message = pg_catalog.format('no space is named %L', name),
            hint = 'Spaces: ' || coalesce((select string_agg(s.name, ', ' order by s.name) from geosearch.space s),
                                          'none yet') || '.';
    end if;
    execute pg_catalog.format('drop table geosearch.%I', 'space_' || name);
    -- What could not be embedded names its space in the payload.
    delete from geosearch.reject r
    where r.stage = 'embed' and r.payload = pg_catalog.format('{"space": "%s"}', drop_space.name);
end $$;
comment on function geosearch.drop_space is 'Removes a space, its table, its vectors and its rejects. For admins.';

revoke all on function geosearch.create_space, geosearch.drop_space from public;
grant execute on function geosearch.create_space, geosearch.drop_space to geosearch_admin;
