-- Where a search looks: its arguments checked, and the from clause of its candidates.
--
-- An image is a candidate when st_distance(place, near) <= radius + reach on the spheroid, place being its footprint,
-- or its nadir where there is no footprint. Cells that lie inside the circle are taken whole; of the others each image's
-- core accepts or its cap rejects it, and only in the ring between is the distance measured. Distances on the spheroid
-- are 0.99442 to 1.00449 times those on the sphere (hence 0.0057), and one metre is left for rounding.
drop function if exists geosearch.search_source;
drop function if exists geosearch.space_of;
drop function if exists geosearch.check_near;
drop function if exists geosearch.place_within;

create function geosearch.space_of(space text)
returns geosearch.space
language plpgsql
stable
parallel restricted
set search_path from current
as $$
declare
    found_space geosearch.space;
begin
    select s.* into found_space from geosearch.space s where s.name = space_of.space;
    if not found then
        raise undefined_object using
            message = case when space is null then 'a search needs a space'
                           else pg_catalog.format('no space is named %L', space) end,
            hint = 'Spaces: ' || coalesce((select string_agg(s.name, ', ' order by s.name) from geosearch.space s),
                                          'none yet; geosearch.create_space makes one') || '.';
    end if;
    return found_space;
end $$;
comment on function geosearch.space_of is 'The row of a space by its name; an error that names all spaces otherwise.';

create function geosearch.check_near(near geography)
returns void
language plpgsql
stable
parallel restricted
set search_path from current
as $$
begin
    if st_srid(near::geometry) <> 4326 then
        raise invalid_parameter_value using
            message = format('near has SRID %s', st_srid(near::geometry)),
            hint = 'Give longitude and latitude on WGS 84: st_makepoint(lon, lat)::geography.';
    elsif st_isempty(near::geometry) then
        raise invalid_parameter_value using
            message = 'near is an empty geography', hint = 'Give a place, or null for the whole Earth.';
    elsif exists (select from st_dumppoints(near::geometry) p
                  where not (st_x(p.geom) between -180 and 180 and st_y(p.geom) between -90 and 90)) then
        -- PostGIS lets them in (infinity becomes NaN on its way) and measures distance 0 from there.
        raise invalid_parameter_value using
            message = 'near has a coordinate that is not a number',
            hint = 'Give longitude and latitude in degrees: st_makepoint(lon, lat)::geography.';
    end if;
end $$;
comment on function geosearch.check_near is 'Refuses a place that cannot be searched near.';

-- A function, because its plan is kept: written into the statement of the candidates it would be planned anew each time.
create function geosearch.place_within(image_id bigint, near geography, metres float8)
returns boolean
language plpgsql
stable
parallel restricted
set search_path from current
as $$
begin
    return (select st_distance(coalesce(i.footprint, i.nadir), near) <= metres
            from geosearch.image i where i.id = place_within.image_id);
end $$;
comment on function geosearch.place_within is
    'Whether the place of an image lies within so many metres of near, on the spheroid. Used by the searches.';

-- source selects the candidates' image_id and distance from $1 (what = 'distance'), or the distances d1, d2 from the
-- vectors of $1 (what = '2 distances'), or image_id and version; with $2 near,
-- $3 radius_m, $4 archive_id, $5 captured_from, $6 captured_to, $7 among, $8 numbers and $9 … $12 ranges of cells;
-- condition is the same as a condition on rows s of the table, for a walk through an approximate index.
create function geosearch.search_source(
    found_space geosearch.space, near geography, radius_m float8, archive text, captured_from timestamptz,
    captured_to timestamptz, among bigint[], what text,
    out source text, out condition text, out archive_id int, out numbers float8[],
    out inside_lo int[], out inside_hi int[], out border_lo int[], out border_hi int[])
language plpgsql
stable
parallel restricted
set search_path from current
as $$
declare
    -- Compared where the row is read: handing vectors on to be compared above took a sixth longer.
    columns constant text := case
        when what = 'distance' then 's.image_id, 0 + (s.embedding <=> $1) as distance'
        when what ~ '^[0-9]{1,2} distances$' then 's.image_id' || (
            select coalesce(string_agg(format(', 0 + (s.embedding <=> $1[%s]) as d%s', n, n), '' order by n), '')
            from generate_series(1, left(what, 2)::int) n)
        else 's.image_id, s.version' end;
    raw constant text := case when what like '%distance%' then 's.image_id, s.embedding' else 's.image_id, s.version' end
        || ', s.cap, s.core, s.reach_m, s.x * $8[1] + s.y * $8[2] + s.z * $8[3] as cosine';
    relation constant text := format(' from geosearch.%I s where', 'space_' || found_space.name);
    point constant boolean := geometrytype(near::geometry) = 'POINT';
    ring text;
    middle record;
    cells record;
    accept float8;
    reject float8;
    nearest float8;
    farthest float8;
    class_m float8;
begin
    if radius_m is null or not (radius_m >= 0 and radius_m < 'infinity') then
        raise invalid_parameter_value using
            message = format('radius_m is %s', coalesce(radius_m::text, 'null')),
            hint = 'Give metres, 0 or more; leave out near to search the whole Earth.';
    elsif captured_from >= captured_to then
        raise invalid_parameter_value using
            message = format('no time lies from %s until before %s', captured_from, captured_to),
            hint = 'captured_from is the first moment, captured_to the first one after the last.';
    end if;
    condition := '';
    if archive is not null then
        select a.id into archive_id from geosearch.archive a where a.name = search_source.archive;
        if not found then
            raise undefined_object using
                message = format('no archive is named %L', archive),
                hint = 'Archives: ' || coalesce((select string_agg(a.name, ', ' order by a.name) from geosearch.archive a),
                                                'none yet') || '.';
        end if;
        condition := ' and s.archive_id = $4';
    end if;
    if captured_from is not null then
        condition := condition || ' and s.captured_at >= $5';
    end if;
    if captured_to is not null then
        condition := condition || ' and s.captured_at < $6';
    end if;

    if near is null then
        if among is not null then
            source := 'select s.* from (select distinct a.id from unnest($7) a (id)) a cross join lateral (select '
                || columns || relation || ' s.image_id = a.id' || condition || ' offset 0) s';
        else
            source := 'select ' || columns || relation || ' true' || condition;
        end if;
        return;
    end if;

    if not point or (st_srid(near::geometry) = 4326 and st_x(near::geometry) between -180 and 180
                     and st_y(near::geometry) between -90 and 90) is not true then
        perform geosearch.check_near(near);
    end if;
    select * into middle from geosearch.place_cap(near);
    accept := (radius_m - 1) * (1 - 0.0057) / 6371008.77 + middle.core;
    -- 4: all round. Neither overflows.
    reject := least(4, (least(radius_m, 1e9) * (1 + 0.0057) + 1) / 6371008.77 + middle.cap);
    if point and radius_m between 2e5 and 1e7 then
        -- The circle itself on this part of the spheroid: its points nearest and farthest as the sphere sees them, every
        -- 15 degrees. Between two of these it strays by less than 0.0001; four times that is left. The ring is half as wide.
        select min(c.angle), max(c.angle) into nearest, farthest
        from (select acos(least(1, greatest(-1, middle.z * sin(lat)
                  + cos(lat) * (middle.x * cos(lon) + middle.y * sin(lon))))) as angle
              from (select radians(st_y(p)) as lat, radians(st_x(p)) as lon
                    from (select st_project(near, radius_m, radians(15 * n))::geometry as p
                          from generate_series(0, 23) n) projected) place) c;
        accept := nearest * (1 - 0.0004) - 1 / 6371008.77;
        reject := farthest * (1 + 0.0004) + 1 / 6371008.77;
    end if;
    -- Scaled by a hair, so that no rounding brings a cosine above 1: a third of the metre.
    numbers := array[middle.x, middle.y, middle.z, 0] || array[
        accept, reject, (1 - 0.0057) / 6371008.77, (1 + 0.0057) / 6371008.77];
    for n in 1 .. 3 loop
        numbers[n] := numbers[n] * 0.999999999999999;
    end loop;
    numbers[4] := case when accept <= 0 then 2 when accept >= pi() then -2 else cos(accept) end;
    -- acos(cosine) is the angle to the image's own point. Written as short as it is because reading the statement
    -- takes longer than a small search.
    ring := '(%1$s >= $8[4] or acos(%1$s) - s.cap <= $8[6] + s.reach_m * $8[8]'
        ' and (acos(%1$s) - s.core <= $8[5] + s.reach_m * $8[7]'
        ' or geosearch.place_within(s.image_id, $2, $3 + s.reach_m)))';
    if among is not null then
        source := 'select ' || columns || ' from (select distinct a.id from unnest($7) a (id)) a cross join lateral ('
            || 'select ' || raw || relation || ' s.image_id = a.id and s.cell < 229376' || condition
            || ' offset 0) s where ' || format(ring, 's.cosine');
        return;
    end if;

    for class in 0 .. 5 loop
        if found_space.extents & (1 << class) <> 0 then
            class_m := geosearch.class_extent(class);
            select * into cells from geosearch.cell_ranges(middle.x, middle.y, middle.z, accept,
                reject + class_m * (1 + 0.0057) / 6371008.77, class);
            inside_lo := inside_lo || cells.inside_lo;
            inside_hi := inside_hi || cells.inside_hi;
            border_lo := border_lo || cells.border_lo;
            border_hi := border_hi || cells.border_hi;
        end if;
    end loop;
    if found_space.extents & 64 <> 0 then
        border_lo := border_lo || 196608;
        border_hi := border_hi || 196608;
    end if;
    -- offset 0 keeps each range a walk of its own: as a plain join this takes as long over the ocean as anywhere.
    source := 'select ' || columns || ' from unnest($11, $12) g (lo, hi) cross join lateral (select ' || raw || relation
        || ' s.cell between g.lo and g.hi' || condition || ' offset 0) s where ' || format(ring, 's.cosine');
    if inside_lo is not null then
        source := 'select s.* from unnest($9, $10) g (lo, hi) cross join lateral (select ' || columns || relation
            || ' s.cell between g.lo and g.hi' || condition || ' offset 0) s union all ' || source;
    end if;
    condition := ' and s.cell < 229376' || condition || ' and ' || format(ring, '(s.x * $8[1] + s.y * $8[2] + s.z * $8[3])');
end $$;
comment on function geosearch.search_source is
    'Checks where a search looks and returns the statement of its candidates with what it needs. Used by the searches.';

revoke all on function geosearch.space_of, geosearch.check_near, geosearch.place_within, geosearch.search_source from public;
grant execute on function geosearch.space_of, geosearch.check_near, geosearch.place_within, geosearch.search_source
    to geosearch_admin, geosearch_ingest, geosearch_read;
