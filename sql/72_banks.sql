-- Banks: RANGE's places, keys and values. bank_<name> holds places and keys in order of place, 0 to n - 1;
-- bank_<name>_values holds the values transposed, in blocks of 2 000 places: one row for each component of the values of a
-- block, so that one row and the weights of a block make a dot product. Both lie in their pages, never apart; single
-- precision, since half is not enough. As in 20_spaces.sql the functions that make tables run with the rights of the
-- schema's owner, hence full names for all that takes arguments of more than one type.
drop function if exists geosearch.create_bank;
drop function if exists geosearch.drop_bank;
drop function if exists geosearch.create_bank_view;
drop function if exists geosearch.bank_of;

create function geosearch.bank_of(bank text)
returns geosearch.bank
language plpgsql
stable
parallel safe
set search_path from current
as $$
declare
    found_bank geosearch.bank;
begin
    select b.* into found_bank from geosearch.bank b where b.name = bank_of.bank;
    if not found then
        raise undefined_object using
            message = case when bank is null then 'no bank is given'
                           else pg_catalog.format('no bank is named %L', bank) end,
            hint = pg_catalog.format('Banks: %s.', coalesce(
                (select string_agg(b.name, ', ' order by b.name) from geosearch.bank b),
                'none yet; geosearch.build_bank makes one'));
    end if;
    return found_bank;
end $$;
comment on function geosearch.bank_of is 'The row of a bank by its name; an error that names all banks otherwise.';

create function geosearch.create_bank(
    name text, encoder text, key_dimension int, value_dimension int, key_model text default null,
    value_model text default null, source text default null, properties jsonb default '{}')
returns int
language plpgsql
security definer
set search_path from current
as $$
declare
    bank_id int;
    encoder_dimension int;
    relation text;
    about record;
begin
    if name is null or name !~ '^[a-z][a-z0-9_]{0,40}$' or name ~ '_(stored|values)$' then
        raise invalid_parameter_value using
            message = pg_catalog.format('%L cannot name a bank', name),
            hint = 'Use a letter, then letters, digits and underscores, lower case, at most 41 in all, that do not end '
                   'with _stored or _values.';
    elsif encoder is null or encoder = '' then
        raise invalid_parameter_value using
            message = 'a bank needs the location encoder that asks it', hint = 'Give its name, such as mini-location.';
    elsif key_dimension is null or key_dimension not between 1 and 1900 then
        raise invalid_parameter_value using
            message = pg_catalog.format('keys cannot have %s dimensions', coalesce(key_dimension::text, 'null')),
            hint = 'Give a number between 1 and 1900: that of the location encoder.';
    elsif value_dimension is null or value_dimension not between 1 and 16000 - key_dimension then
        raise invalid_parameter_value using
            message = pg_catalog.format('values cannot have %s dimensions beside keys of %s',
                                        coalesce(value_dimension::text, 'null'), key_dimension),
            hint = 'An embedding holds both, and a vector at most 16000 numbers.';
    elsif properties is null or pg_catalog.jsonb_typeof(properties) <> 'object' then
        raise invalid_parameter_value using
            message = 'properties are no JSON object', hint = 'Leave them out, or give an object: ''{"note": "…"}''.';
    elsif exists (select from geosearch.bank b where b.name = create_bank.name) then
        raise duplicate_object using
            message = pg_catalog.format('there is a bank %s already', name),
            hint = 'Choose another name, or drop it first: geosearch range drop, or select geosearch.drop_bank(name).';
    end if;
    select c.relname into relation from pg_catalog.pg_class c
    where c.relnamespace = 'geosearch'::regnamespace
      and c.relname = any (array['bank_' || name, 'bank_' || name || '_values', 'range_' || name,
                                 'range_' || name || '_stored']);
    if found then
        raise duplicate_table using
            message = pg_catalog.format('a bank %s would need the name of %s, which there is already', name, relation),
            hint = 'Choose another name.';
    end if;
    select m.dimension into encoder_dimension from geosearch.model m where m.name = create_bank.encoder;
    if encoder_dimension <> key_dimension then
        raise invalid_parameter_value using
            message = pg_catalog.format('encoder %s makes vectors of %s dimensions, the keys have %s',
                                        encoder, encoder_dimension, key_dimension),
            hint = 'Give keys of the space that the encoder was trained for, or the encoder of these keys.';
    end if;

    insert into geosearch.bank (
        name, encoder, key_dimension, value_dimension, key_model, value_model, source, properties)
    values (name, encoder, key_dimension, value_dimension, key_model, value_model, source, properties)
    returning id into bank_id;
    execute pg_catalog.format(
        'create table geosearch.%I (
            place int not null primary key check (place >= 0),
            block int not null check (block = place / 2000),
            x float8 not null,
            y float8 not null,
            z float8 not null,
            key vector(%s) not null,
            image_id bigint
        )', 'bank_' || name, key_dimension);
    execute pg_catalog.format(
        'create table geosearch.%I (
            block int not null,
            component int not null,
            values vector not null,
            primary key (block, component)
        )', 'bank_' || name || '_values');
    -- What it refers to, the images, finish_bank says. 8 kB hold a row up to 1 900 numbers. What is stored apart is read nine times slower.
    execute pg_catalog.format(
        'create table geosearch.%I (
            image_id bigint primary key,
            embedding vector(%s) not null,
            geom geometry(Point, 4326) not null
        )', 'range_' || name || '_stored', key_dimension + value_dimension);
    execute pg_catalog.format('alter table geosearch.%I alter column key set storage plain', 'bank_' || name);
    execute pg_catalog.format('alter table geosearch.%I alter column values set storage plain',
                              'bank_' || name || '_values');
    if key_dimension + value_dimension <= 1900 then
        execute pg_catalog.format('alter table geosearch.%I alter column embedding set storage plain',
                                  'range_' || name || '_stored');
    end if;
    for about in
        select * from (values
            ('bank_%s', null, 'Places and keys of bank %s, in order of place; made by geosearch.create_bank.'),
            ('bank_%s', 'place', 'Number of the place, from 0.'),
            ('bank_%s', 'block', 'place / 2000: the block that its value lies in.'),
            ('bank_%s', 'x', 'Unit vector of the place: cos(latitude) cos(longitude).'),
            ('bank_%s', 'y', 'cos(latitude) sin(longitude).'),
            ('bank_%s', 'z', 'sin(latitude).'),
            ('bank_%s', 'key', 'What the vector of a location is compared with, of length 1.'),
            ('bank_%s', 'image_id', 'The image that it was taken from, which may be gone; null where from none.'),
            ('bank_%s_values', null, 'Values of bank %s, transposed, in blocks of 2 000 places.'),
            ('bank_%s_values', 'block', 'The block of places.'),
            ('bank_%s_values', 'component', 'Which number of the values, from 0.'),
            ('bank_%s_values', 'values', 'That number of the value of each place of the block, in order of place.'),
            ('range_%s_stored', null,
             'RANGE embeddings of images by bank %s, as stored by `geosearch range refresh`; geosearch.range_state '
             'tells whether images changed since.'),
            ('range_%s_stored', 'image_id', 'The image.'),
            ('range_%s_stored', 'embedding', 'The expected value, then the unit vector of the location encoder.'),
            ('range_%s_stored', 'geom', 'The place that it was computed for.')) as c (relation, field, text)
    loop
        relation := pg_catalog.format(about.relation, name);
        if about.field is null then
            execute pg_catalog.format('comment on table geosearch.%I is %L', relation,
                                      pg_catalog.format(about.text, name));
            execute pg_catalog.format(
                'grant select on geosearch.%I to geosearch_admin, geosearch_ingest, geosearch_read', relation);
            execute pg_catalog.format('grant insert, update, delete, truncate on geosearch.%I to geosearch_admin%s',
                relation, case when relation = 'range_' || name || '_stored' then ', geosearch_ingest' else '' end);
        else
            execute pg_catalog.format('comment on column geosearch.%I.%I is %L', relation, about.field, about.text);
        end if;
    end loop;
    return bank_id;
end $$;
comment on function geosearch.create_bank is
    'Makes a bank of RANGE and its empty tables, and returns its id: for who fills them and then calls finish_bank. '
    'For admins.';

create function geosearch.create_bank_view(bank text)
returns void
language plpgsql
set search_path from current
as $$
declare
    found_bank constant geosearch.bank := geosearch.bank_of(bank);
    -- Measured: 1 ns for each number of keys and values, and what the encoder takes.
    cost_ms constant text := pg_catalog.round(3::float8 + 1e-6::float8 * found_bank.places::float8
        * (found_bank.key_dimension + found_bank.value_dimension)::float8)::text;
    about record;
begin
    execute pg_catalog.format(
        'create or replace view geosearch.%I with (security_invoker = true) as
        select i.id, a.name as archive, i.name,
               geosearch.place_point(coalesce(i.footprint, i.nadir))::geometry(Point, 4326) as geom,
               geosearch.range_embedding(%L, geosearch.place_point(coalesce(i.footprint, i.nadir))::geography)::vector(%s)
                   as embedding
        from geosearch.image i join geosearch.archive a on a.id = i.archive_id
        where i.footprint is not null or i.nadir is not null',
        'range_' || bank, bank, found_bank.value_dimension + found_bank.key_dimension);
    for about in
        select * from (values
            (null, pg_catalog.format(
                'Every image that has a place, with its RANGE+ embedding by bank %s, which is computed when the column '
                'embedding is read, and only then: about %s ms a row. For joins of a few hundred rows; whole archives: '
                '`geosearch range refresh %s`, then table range_%s_stored.', bank, cost_ms, bank, bank)),
            ('id', 'Key of the image.'),
            ('archive', 'Name of its archive.'),
            ('name', 'Its name, unique in its archive.'),
            ('geom', 'A point of its place, for which the embedding is.'),
            ('embedding', pg_catalog.format(
                'The value that RANGE+ expects there (%s numbers), then the unit vector of %s (%s numbers). Computed '
                'when read: about %s ms a row.', found_bank.value_dimension, found_bank.encoder,
                found_bank.key_dimension, cost_ms))) as c (field, text)
    loop
        if about.field is null then
            execute pg_catalog.format('comment on view geosearch.%I is %L', 'range_' || bank, about.text);
        else
            execute pg_catalog.format('comment on column geosearch.%I.%I is %L', 'range_' || bank, about.field,
                                      about.text);
        end if;
    end loop;
    execute pg_catalog.format('revoke all on geosearch.%I from public', 'range_' || bank);
    execute pg_catalog.format('grant select on geosearch.%I to geosearch_admin, geosearch_ingest, geosearch_read',
                              'range_' || bank);
end $$;
comment on function geosearch.create_bank_view is
    'Makes the view range_<bank> of a finished bank. For the owner; finish_bank and a migration call it.';

create function geosearch.drop_bank(name text)
returns void
language plpgsql
security definer
set search_path from current
as $$
declare
    found_bank constant geosearch.bank := geosearch.bank_of(name);
begin
    -- As in drop_space: first what the removal of a table that refers to images locks in any case.
    begin
        execute pg_catalog.format(
            'lock table geosearch.image, geosearch.%I in access exclusive mode', 'range_' || name || '_stored');
    exception
        when undefined_table then
            null;  -- another one dropped it meanwhile
    end;
    delete from geosearch.bank b where b.id = found_bank.id;
    if not found then
        perform geosearch.bank_of(name);
        return;
    end if;
    execute pg_catalog.format('drop view if exists geosearch.%I', 'range_' || name);
    execute pg_catalog.format('drop table if exists geosearch.%I, geosearch.%I, geosearch.%I',
        'range_' || name || '_stored', 'bank_' || name || '_values', 'bank_' || name);
end $$;
comment on function geosearch.drop_bank is 'Removes a bank, its tables, its view and what was stored by it. For admins.';

revoke all on function
    geosearch.bank_of, geosearch.create_bank, geosearch.create_bank_view, geosearch.drop_bank
    from public;
grant execute on function geosearch.bank_of to geosearch_admin, geosearch_ingest, geosearch_read;
grant execute on function geosearch.create_bank, geosearch.drop_bank to geosearch_admin;

-- 74_range.sql makes the views anew where it was replaced; this where it was not.
do $$
declare
    bank text;
begin
    for bank in select b.name from geosearch.bank b
                where b.built_at is not null and pg_catalog.to_regproc('geosearch.range_embedding') is not null loop
        execute pg_catalog.format('drop view if exists geosearch.%I', 'range_' || bank);
        perform geosearch.create_bank_view(bank);
    end loop;
end $$;
