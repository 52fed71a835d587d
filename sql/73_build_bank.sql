-- From filled tables to a bank that answers: the check that a bank is whole, and a bank out of two spaces.
drop function if exists geosearch.build_bank;
drop function if exists geosearch.fill_bank;
drop function if exists geosearch.finish_bank;

create function geosearch.finish_bank(name text)
returns int
language plpgsql
security definer
set search_path from current
as $$
declare
    found_bank constant geosearch.bank := geosearch.bank_of(name);
    again constant text := 'Fill it again: geosearch.drop_bank(name), then build or create it anew.';
    stored constant text := 'range_' || name || '_stored';
    whole record;
    wrong record;
begin
    perform from geosearch.bank b where b.id = found_bank.id for update;
    execute pg_catalog.format('select count(*)::int as places, min(place) as first, max(place) as last from geosearch.%I',
                              'bank_' || name) into whole;
    if whole.places = 0 then
        raise no_data_found using
            message = pg_catalog.format('bank %s has no places', name), hint = again;
    elsif whole.first <> 0 or whole.last <> whole.places - 1 then
        execute pg_catalog.format(
            'select s.n as place from pg_catalog.generate_series(0, $1) s (n)'
            ' where not exists (select from geosearch.%I b where b.place = s.n) order by s.n limit 1',
            'bank_' || name) into wrong using whole.last;
        raise data_exception using
            message = pg_catalog.format('place %s of bank %s is missing', wrong.place, name), hint = again;
    end if;
    -- Multiplied with another one that is as small, what is nearer 0 than that would underflow, an error.
    execute pg_catalog.format(
        'update geosearch.%I b set x = case when abs(b.x) < $1 then 0 else b.x end,'
        ' y = case when abs(b.y) < $1 then 0 else b.y end, z = case when abs(b.z) < $1 then 0 else b.z end'
        ' where abs(b.x) < $1 and b.x <> $2 or abs(b.y) < $1 and b.y <> $2 or abs(b.z) < $1 and b.z <> $2',
        'bank_' || name) using 1e-50::float8, 0::float8;
    execute pg_catalog.format(
        'select b.place, vector_norm(b.key) as length, b.x * b.x + b.y * b.y + b.z * b.z as square'
        ' from geosearch.%I b where not b.x * b.x + b.y * b.y + b.z * b.z between 1::float8 - $1 and 1::float8 + $1'
        ' or ($3 and not vector_norm(b.key) between 1::float8 - $2 and 1::float8 + $2) order by b.place limit 1',
        'bank_' || name) into wrong using 1e-6::float8, 1e-3::float8, found_bank.keys_normalised;
    if wrong.place is not null then
        raise data_exception using
            message = case when wrong.square between 0.999999::float8 and 1.000001::float8
                then pg_catalog.format('the key of place %s of bank %s has length %s, not 1', wrong.place, name, wrong.length)
                else pg_catalog.format('place %s of bank %s is no unit vector: its square is %s', wrong.place, name,
                                       wrong.square) end,
            hint = again;
    end if;
    -- The key of that table leaves no component twice; so the right number of them within bounds are all of them.
    execute pg_catalog.format(
        'select s.block, pg_catalog.count(v.component) as components, min(v.component) as first, max(v.component) as last,'
        ' min(vector_dims(v.values)) as shortest, max(vector_dims(v.values)) as longest,'
        ' least(2000, $1 - s.block * 2000) as due'
        ' from pg_catalog.generate_series(0, ($1 - 1) / 2000) s (block)'
        ' left join geosearch.%1$I v on v.block = s.block group by s.block'
        ' having pg_catalog.count(v.component) <> $2 or min(v.component) <> 0 or max(v.component) <> $2 - 1'
        ' or min(vector_dims(v.values)) <> least(2000, $1 - s.block * 2000)'
        ' or max(vector_dims(v.values)) <> least(2000, $1 - s.block * 2000)'
        ' union all select v.block, count(*), 0, 0, 0, 0, 0 from geosearch.%1$I v'
        ' where v.block not between 0 and ($1 - 1) / 2000 group by v.block order by block limit 1',
        'bank_' || name || '_values') into wrong using whole.places, found_bank.value_dimension;
    if wrong.block is not null then
        raise data_exception using
            message = case
                when wrong.due = 0 then pg_catalog.format('bank %s has values of block %s, but no places', name, wrong.block)
                when wrong.components <> found_bank.value_dimension or wrong.first <> 0
                     or wrong.last <> found_bank.value_dimension - 1
                then pg_catalog.format('block %s of the values of bank %s has %s components, from %s to %s; %s are due, from 0',
                    wrong.block, name, wrong.components, wrong.first, wrong.last, found_bank.value_dimension)
                else pg_catalog.format('block %s of the values of bank %s has rows of %s to %s places, not %s', wrong.block,
                    name, wrong.shortest, wrong.longest, wrong.due) end,
            hint = again;
    end if;

    update geosearch.bank b set places = whole.places, built_at = pg_catalog.now() where b.id = found_bank.id;
    -- Not by create_bank: whoever writes images waits from here to the end of the transaction.
    if not exists (select from pg_catalog.pg_constraint c
                   where c.contype = 'f' and c.conrelid = pg_catalog.format('geosearch.%I', stored)::regclass) then
        execute pg_catalog.format('alter table geosearch.%I add foreign key (image_id) references geosearch.image (id)'
                                  ' on delete cascade', stored);
    end if;
    perform geosearch.create_bank_view(name);
    execute pg_catalog.format('analyze geosearch.%I', 'bank_' || name);
    execute pg_catalog.format('analyze geosearch.%I', 'bank_' || name || '_values');
    return whole.places;
end $$;
comment on function geosearch.finish_bank is
    'Looks whether a filled bank is whole (every place, unit vectors, every component of every block), makes its view '
    'range_<name>, and returns its number of places; before that nothing can be asked of it. For admins.';

-- The steps of build_bank that write rows. first: where in the order of cells the sample begins.
create function geosearch.fill_bank(
    bank text, keys text, "values" text, archive_id int, candidates bigint, places int, first bigint)
returns void
language plpgsql
set search_path from current
as $$
declare
    twins record;
    filled bigint;
begin
    -- Every candidates / places-th of the images in the order of cells; whole numbers, hence exactly so many, no two alike.
    execute pg_catalog.format(
        'insert into geosearch.%I (place, block, x, y, z, key, image_id)'
        ' select n.place, n.place / 2000, s.x, s.y, s.z, l2_normalize(s.embedding::vector), s.image_id'
        ' from (select t.n, (t.n * $2 + $4) / $3 as turn, t.n::int as place'
        '       from pg_catalog.generate_series(0::bigint, $3 - 1::bigint) t (n)) n'
        ' join (select c.image_id, row_number() over (order by geosearch.cell(c.x, c.y, c.z, 0::float8), c.image_id)'
        '              - 1::bigint as turn'
        '       from geosearch.%2$I c where c.cell < 229376 and ($1 is null or c.archive_id = $1)) o on o.turn = n.turn'
        ' join geosearch.%2$I s on s.image_id = o.image_id order by n.place', 'bank_' || bank, 'space_' || keys)
        using archive_id, candidates, places::bigint, first;
    get diagnostics filled = row_count;
    if filled <> places then
        raise serialization_failure using
            message = pg_catalog.format('images were removed while bank %s was built', bank),
            hint = 'Build it again.';
    end if;
    execute pg_catalog.format(
        'select pg_catalog.array_agg(b.image_id order by b.image_id) as ids from geosearch.%1$I b'
        ' join (select t.x, t.y, t.z from geosearch.%1$I t group by t.x, t.y, t.z having count(*) > 1) d'
        ' on d.x = b.x and d.y = b.y and d.z = b.z group by b.x, b.y, b.z, b.key having count(*) > 1 limit 1',
        'bank_' || bank) into twins;
    if twins.ids is not null then
        raise unique_violation using
            message = pg_catalog.format('images %s of space %s have the same place and the same vector',
                (select string_agg(pg_catalog.format('%s (%s)', i.name, i.id), ', ' order by i.id)
                 from geosearch.image i where i.id = any (twins.ids[1:5])), keys),
            hint = 'A place would count twice. Remove one of the images, or build from an archive without it.';
    end if;
    for block in 0 .. (places - 1) / 2000 loop
        -- One array of all values of the block, cut crosswise: 20 times faster than a row for each number.
        execute pg_catalog.format(
            'insert into geosearch.%I (block, component, values)'
            ' select $1, c.n - 1, array(select pg_catalog.unnest(m.numbers[:][c.n:c.n]))::vector'
            ' from (select pg_catalog.array_agg(v.embedding::vector::real[] order by b.place) as numbers'
            '       from geosearch.%I b join geosearch.%I v on v.image_id = b.image_id'
            '       where b.place between $1 * 2000 and $1 * 2000 + 1999) m'
            ' cross join lateral (select g.n from pg_catalog.generate_series('
            '     1, pg_catalog.array_length(m.numbers, 2)) g (n) offset 0) c order by c.n',
            'bank_' || bank || '_values', 'bank_' || bank, 'space_' || "values") using block;
    end loop;
end $$;
comment on function geosearch.fill_bank is 'Fills the tables of a new bank from two spaces. For the owner; build_bank calls it.';

create function geosearch.build_bank(
    name text, keys text, encoder text, "values" text default null, archive text default null,
    fraction float8 default 1, seed int default 0)
returns int
language plpgsql
security definer
set search_path from current
as $$
declare
    key_space geosearch.space;
    value_space geosearch.space;
    archive_id int;
    candidates bigint;
    placeless bigint;
    places int;
    lone record;
begin
    if keys is null then
        raise null_value_not_allowed using
            message = 'no space of keys is given',
            hint = 'Give the space whose vectors the location encoder was trained for.';
    elsif fraction is null or not (fraction > 0::float8 and fraction <= 1::float8) then
        raise invalid_parameter_value using
            message = pg_catalog.format('fraction is %s', coalesce(fraction::text, 'null')),
            hint = 'Give a number above 0, up to 1 for all places.';
    elsif seed is null then
        raise null_value_not_allowed using message = 'seed is null', hint = 'Give a whole number, such as 0.';
    end if;
    key_space := geosearch.space_of(keys);
    value_space := geosearch.space_of(coalesce("values", keys));
    if not exists (select from geosearch.model m join geosearch.location_weight w on w.model_id = m.id
                   where m.name = build_bank.encoder) then
        raise undefined_object using
            message = case when encoder is null then 'no location encoder is given'
                else pg_catalog.format('location encoder %L is not in this database', encoder) end,
            hint = pg_catalog.format('Here: %s. Bring another one in: geosearch model install-sql NAME.', coalesce(
                (select string_agg(m.name, ', ' order by m.name) from geosearch.model m
                 where exists (select from geosearch.location_weight w where w.model_id = m.id)), 'none'));
    elsif archive is not null then
        select a.id into archive_id from geosearch.archive a where a.name = build_bank.archive;
        if archive_id is null then
            raise undefined_object using
                message = pg_catalog.format('no archive is named %L', archive),
                hint = pg_catalog.format('Archives: %s.', coalesce(
                    (select string_agg(a.name, ', ' order by a.name) from geosearch.archive a), 'none yet'));
        end if;
    end if;
    -- Made first: a name, an encoder or a dimension that will not do is told before anything is read.
    perform geosearch.create_bank(name, encoder, key_space.dimension, value_space.dimension,
        (select m.name from geosearch.model m where m.id = key_space.model_id),
        (select m.name from geosearch.model m where m.id = value_space.model_id),
        pg_catalog.format('space %s%s%s', key_space.name,
            case when value_space.id <> key_space.id then ' and values of space ' || value_space.name else '' end,
            case when archive is not null then ', archive ' || archive else '' end));

    -- Places without a partner in the other space, either way.
    for lone in execute pg_catalog.format(
        'select o.image_id, o.here, i.name, count(*) over () as others from ('
        ' select k.image_id, 1 as here from geosearch.%1$I k where ($1 is null or k.archive_id = $1)'
        '     and not exists (select from geosearch.%2$I v where v.image_id = k.image_id)'
        ' union all select v.image_id, 2 from geosearch.%2$I v where ($1 is null or v.archive_id = $1)'
        '     and not exists (select from geosearch.%1$I k where k.image_id = v.image_id)) o'
        ' join geosearch.image i on i.id = o.image_id order by o.here, o.image_id limit 1',
        'space_' || key_space.name, 'space_' || value_space.name) using archive_id
    loop
        raise no_data_found using
            message = pg_catalog.format('image %s (%s) has a vector in space %s but none in space %s', lone.name, lone.image_id,
                case when lone.here = 1 then key_space.name else value_space.name end,
                case when lone.here = 1 then value_space.name else key_space.name end),
            hint = pg_catalog.format('There are %s such images. Embed them: geosearch embed --space %s.', lone.others,
                case when lone.here = 1 then value_space.name else key_space.name end);
    end loop;
    execute pg_catalog.format(
        'select count(*) filter (where s.cell < 229376), count(*) filter (where s.cell >= 229376) from geosearch.%I s'
        ' where ($1 is null or s.archive_id = $1)', 'space_' || key_space.name)
        into candidates, placeless using archive_id;
    if candidates = 0 then
        raise no_data_found using
            message = pg_catalog.format('no image that has a place has a vector in space %s', key_space.name),
            hint = 'Catalogue images with their places, and embed them: geosearch embed.';
    end if;
    places := greatest(1::float8, pg_catalog.round(fraction * candidates::float8))::int;
    perform geosearch.fill_bank(name, key_space.name, value_space.name, archive_id, candidates, places,
        ('x' || pg_catalog.substr(pg_catalog.md5(seed::text), 1, 8))::bit(32)::bigint % candidates);
    update geosearch.bank b
    set key_space_id = key_space.id, value_space_id = value_space.id,
        properties = pg_catalog.jsonb_build_object('keys', key_space.name, 'values', value_space.name, 'archive', archive,
            'fraction', fraction, 'seed', seed, 'candidates', candidates, 'without_place', placeless)
    where b.name = build_bank.name;
    return geosearch.finish_bank(name);
end $$;
comment on function geosearch.build_bank is
    'Makes a bank of RANGE out of a space of keys and one of values (null: the same): every image that has a place, or a '
    'fraction of them drawn evenly along the order of cells. Returns its number of places. For admins.';

revoke all on function geosearch.finish_bank, geosearch.fill_bank, geosearch.build_bank from public;
grant execute on function geosearch.finish_bank, geosearch.build_bank to geosearch_admin;
