-- Spaces: one typed table of vectors each. The functions run with the rights of the schema's owner, so that every
-- table belongs to whom migrations run as, whoever of the admins made it. Hence `pg_catalog.format`: a function of that
-- name in the extensions' schema, where others may be allowed to make some, would suit some calls better and win.
drop function if exists geosearch.create_space;
drop function if exists geosearch.drop_space;
drop function if exists geosearch.create_space_table;
drop function if exists geosearch.comment_space_table;
drop function if exists geosearch.finish_space_table;
drop function if exists geosearch.add_space_triggers;
drop function if exists geosearch.count_vector_changes;
drop function if exists geosearch.add_space_keys;

-- The table of a space in three steps: `geosearch space reorder` fills a second one between the first and the others.
create function geosearch.create_space_table(table_name text, space text, dimension int)
returns void
language plpgsql
set search_path from current
as $$
begin
    -- What every search reads comes first and is never null: its place in the row is then known without looking.
    execute pg_catalog.format(
        'create table geosearch.%1$I (
            image_id bigint not null,
            version bigint not null,
            x float8 not null,
            y float8 not null,
            z float8 not null,
            cap float8 not null,
            core float8 not null,
            reach_m float8 not null,
            embedded_at timestamptz not null default now(),
            cell int not null,
            archive_id int not null,
            %4$s
            embedding halfvec(%2$s) not null,
            captured_at timestamptz,
            content_sha256 bytea,
            -- A vector of length 0 has no direction, hence no cosine.
            constraint %3$I check (l2_norm(embedding) > 0)
        )', table_name, dimension, table_name || '_embedding_check',
        case when dimension > 3900 then pg_catalog.format('code bit(%s) not null,', dimension) else '' end);
    -- Inline while a row fits a page (8 kB): a scan that must fetch every vector from elsewhere takes nine times longer.
    execute pg_catalog.format('alter table geosearch.%I alter column embedding set storage %s',
        table_name, case when dimension <= 3900 then 'plain' else 'external' end);
    perform geosearch.comment_space_table(table_name, space, dimension);
    execute pg_catalog.format('grant select on geosearch.%I to geosearch_admin, geosearch_ingest, geosearch_read',
        table_name);
    execute pg_catalog.format('grant insert, update, delete on geosearch.%I to geosearch_admin, geosearch_ingest',
        table_name);
end $$;
comment on function geosearch.create_space_table is 'Makes an empty table of vectors, without keys. For the owner.';

create function geosearch.comment_space_table(table_name text, space text, dimension int)
returns void
language plpgsql
set search_path from current
as $$
declare
    about record;
begin
    execute pg_catalog.format('comment on table geosearch.%I is %L', table_name, pg_catalog.format(
        'The vectors of space %s, in the order of cell; made by geosearch.create_space, removed by drop_space.', space));
    for about in
        select * from (values
            ('image_id', 'The image.'),
            ('version', 'A number that no other vector of any space ever had; drawn when the vector changes.'),
            ('x', 'Unit vector of a point of the image''s place: cos(latitude) cos(longitude); 0 without a place.'),
            ('y', 'cos(latitude) sin(longitude).'),
            ('z', 'sin(latitude).'),
            ('cap', 'The angle in radians beyond which nothing of the place lies from there.'),
            ('core', 'The angle in radians within which all belongs to the place.'),
            ('reach_m', 'As of the image.'),
            ('embedded_at', 'When.'),
            ('cell', 'Where it lies (geosearch.cell); the table is kept in this order.'),
            ('archive_id', 'As of the image.'),
            ('code', 'The signs of the vector, less the centre of the space: what an index holds of so long a vector.'),
            ('embedding', 'The vector, in half precision.'),
            ('captured_at', 'As of the image.'),
            ('content_sha256', 'SHA-256 of the pixels that were embedded.')) as c (name, text)
        where dimension > 3900 or c.name <> 'code'
    loop
        execute pg_catalog.format('comment on column geosearch.%I.%I is %L', table_name, about.name, about.text);
    end loop;
end $$;
comment on function geosearch.comment_space_table is 'Says in the database what a table of vectors holds. For the owner.';

create function geosearch.add_space_triggers(table_name text, dimension int)
returns void
language plpgsql
set search_path from current
as $$
begin
    execute pg_catalog.format(
        'create trigger fill before insert or update on geosearch.%I for each row'
        ' execute function geosearch.fill_space_row(%s)', table_name, case when dimension > 3900 then '''code''' end);
    execute pg_catalog.format(
        'create trigger extents_inserted after insert on geosearch.%I referencing new table as changed'
        ' for each statement execute function geosearch.note_extents()', table_name);
    execute pg_catalog.format(
        'create trigger extents_updated after update on geosearch.%I referencing new table as changed'
        ' for each statement execute function geosearch.note_extents()', table_name);
    perform geosearch.count_vector_changes(table_name);
end $$;
comment on function geosearch.add_space_triggers is 'Gives a table of vectors its triggers. For the owner.';

create function geosearch.count_vector_changes(table_name text)
returns void
language plpgsql
set search_path from current
as $$
declare
    kind record;
begin
    for kind in
        select k.name, k.event, k.seen, s.id
        from geosearch.space s cross join (values
            ('vectors_inserted', 'insert', 'referencing new table as new_rows'),
            ('vectors_updated', 'update', 'referencing old table as old_rows new table as new_rows'),
            ('vectors_deleted', 'delete', 'referencing old table as old_rows'),
            ('vectors_truncated', 'truncate', '')) as k (name, event, seen)
        where 'space_' || s.name = table_name
    loop
        execute pg_catalog.format(
            'create trigger %I after %s on geosearch.%I %s for each statement'
            ' execute function geosearch.note_vector_change(%L)',
            kind.name, kind.event, table_name, kind.seen, kind.id);
    end loop;
end $$;
comment on function geosearch.count_vector_changes is
    'Gives the table of a space the triggers that count its changes, as subject vectors <id>. For the owner.';

create function geosearch.add_space_keys(table_name text)
returns void
language plpgsql
set search_path from current
as $$
begin
    execute pg_catalog.format('alter table geosearch.%I add constraint %I primary key (image_id)',
        table_name, table_name || '_pkey');
    execute pg_catalog.format('create index %I on geosearch.%I (cell)', table_name || '_cell_idx', table_name);
end $$;
comment on function geosearch.add_space_keys is 'Gives a table of vectors its key and the index on cell. For the owner.';

create function geosearch.finish_space_table(table_name text, dimension int)
returns void
language plpgsql
set search_path from current
as $$
begin
    perform geosearch.add_space_triggers(table_name, dimension);
    -- Not checked at once: that would read all images under a lock. `validate constraint` does, without one.
    execute pg_catalog.format(
        'alter table geosearch.%I add constraint %I foreign key (image_id) references geosearch.image (id)'
        ' on delete cascade not valid', table_name, table_name || '_image_id_fkey');
end $$;
comment on function geosearch.finish_space_table is
    'Gives a table of vectors its triggers and the reference to its images. For the owner.';

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
    values (name, model_row.id, dimension, metric, embeds, 2)
    returning id into space_id;
    perform geosearch.create_space_table('space_' || name, name, dimension);
    perform geosearch.add_space_keys('space_' || name);
    perform geosearch.finish_space_table('space_' || name, dimension);
    execute pg_catalog.format('alter table geosearch.%I validate constraint %I',
        'space_' || name, 'space_' || name || '_image_id_fkey');
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
declare
    dropped int;
begin
    -- First what the removal locks in any case, in the order of those who change images: whoever has written vectors may
    -- yet need the row of their space.
    if exists (select from geosearch.space s where s.name = drop_space.name) then
        begin
            execute pg_catalog.format(
                'lock table geosearch.image, geosearch.%I in access exclusive mode', 'space_' || name);
        exception
            when undefined_table then
                null;  -- another one dropped it meanwhile
        end;
    end if;
    delete from geosearch.space s where s.name = drop_space.name returning s.id into dropped;
    if dropped is null then
        raise undefined_object using
            message = pg_catalog.format('no space is named %L', name),
            hint = 'Spaces: ' || coalesce((select string_agg(s.name, ', ' order by s.name) from geosearch.space s),
                                          'none yet') || '.';
    end if;
    execute pg_catalog.format('drop table geosearch.%I', 'space_' || name);
    delete from geosearch.change c where c.subject = 'vectors ' || dropped::text;
    -- What could not be embedded names its space in the payload.
    delete from geosearch.reject r
    where r.stage = 'embed' and r.payload = pg_catalog.format('{"space": "%s"}', drop_space.name);
end $$;
comment on function geosearch.drop_space is 'Removes a space, its table, its vectors and its rejects. For admins.';

revoke all on function
    geosearch.create_space, geosearch.drop_space, geosearch.create_space_table, geosearch.finish_space_table,
    geosearch.add_space_triggers, geosearch.count_vector_changes, geosearch.add_space_keys,
    geosearch.comment_space_table
    from public;
grant execute on function geosearch.create_space, geosearch.drop_space to geosearch_admin;

-- Tables that a migration brought from layout 1: their triggers, comments, and what the triggers would have filled in.
do $$
declare
    made record;
begin
    for made in select s.name, s.dimension from geosearch.space s where s.extents & 256 <> 0 loop
        perform geosearch.add_space_triggers('space_' || made.name, made.dimension);
        perform geosearch.comment_space_table('space_' || made.name, made.name, made.dimension);
        execute pg_catalog.format('update geosearch.%I s set image_id = s.image_id', 'space_' || made.name);
        update geosearch.space s set extents = s.extents & 255 where s.name = made.name;
        perform geosearch.count_cells(made.name);
    end loop;
end $$;

-- Tables from before their changes were counted. None of them has moments, which came together with the count.
do $$
declare
    made record;
begin
    for made in
        select 'space_' || s.name as table_name from geosearch.space s
        join pg_catalog.pg_class c on c.relname = 'space_' || s.name and c.relnamespace = 'geosearch'::regnamespace
        where not exists (select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and t.tgname = 'vectors_inserted')
    loop
        perform geosearch.count_vector_changes(made.table_name);
    end loop;
end $$;
