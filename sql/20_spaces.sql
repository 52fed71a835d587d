-- Spaces: one typed table of vectors each. The functions run with the rights of the schema's owner, so that every
-- table belongs to whom migrations run as, whoever of the admins made it.
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
            message = format('%L cannot name a space', name),
            hint = 'Use a letter, then letters, digits and underscores, lower case, at most 41 in all.';
    elsif dimension is null or dimension not between 1 and 16000 then
        raise invalid_parameter_value using
            message = format('a space cannot have %s dimensions', coalesce(dimension::text, 'null')),
            hint = 'Give a number between 1 and 16000.';
    elsif metric is distinct from 'cosine' then
        raise invalid_parameter_value using
            message = format('no metric is named %L', metric), hint = 'The metric of every space is cosine.';
    elsif embeds is distinct from 'image' then
        raise invalid_parameter_value using
            message = format('a space cannot embed %L', embeds), hint = 'A space embeds image.';
    elsif exists (select from geosearch.space s where s.name = create_space.name) then
        raise duplicate_object using
            message = format('there is a space %s already', name),
            hint = 'Choose another name, or drop it first: select geosearch.drop_space(name).';
    end if;
    if model is not null then
        select m.* into model_row from geosearch.model m where m.name = create_space.model;
        if not found then
            raise undefined_object using
                message = format('no model is named %L', model),
                hint = 'Models: ' || coalesce((select string_agg(m.name, ', ' order by m.name) from geosearch.model m),
                                              'none yet') || '.';
        elsif model_row.dimension <> create_space.dimension then
            raise invalid_parameter_value using
                message = format('model %s makes vectors of %s dimensions, not %s',
                                 model, model_row.dimension, dimension),
                hint = 'Give the dimension of the model.';
        end if;
    end if;

    insert into geosearch.space (name, model_id, dimension, metric, embeds, layout_version)
    values (name, model_row.id, dimension, metric, embeds, 1)
    returning id into space_id;
    execute format(
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
    execute format('alter table geosearch.%I alter column embedding set storage %s',
                   'space_' || name, case when dimension <= 3900 then 'plain' else 'external' end);
    execute format('comment on table geosearch.%I is %L', 'space_' || name,
                   format('The vectors of space %s; made by geosearch.create_space, removed by drop_space.', name));
    execute format('comment on column geosearch.%I.image_id is %L', 'space_' || name, 'The image.');
    execute format('comment on column geosearch.%I.content_sha256 is %L', 'space_' || name,
                   'SHA-256 of the pixels that were embedded.');
    execute format('comment on column geosearch.%I.embedding is %L', 'space_' || name,
                   'The vector, in half precision.');
    execute format('comment on column geosearch.%I.embedded_at is %L', 'space_' || name, 'When.');
    execute format('grant select on geosearch.%I to geosearch_admin, geosearch_ingest, geosearch_read',
                   'space_' || name);
    execute format('grant insert, update, delete on geosearch.%I to geosearch_admin, geosearch_ingest',
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
            message = format('no space is named %L', name),
            hint = 'Spaces: ' || coalesce((select string_agg(s.name, ', ' order by s.name) from geosearch.space s),
                                          'none yet') || '.';
    end if;
    execute format('drop table geosearch.%I', 'space_' || name);
end $$;
comment on function geosearch.drop_space is 'Removes a space, its table and its vectors. For admins.';

revoke all on function geosearch.create_space, geosearch.drop_space from public;
grant execute on function geosearch.create_space, geosearch.drop_space to geosearch_admin;
