-- Caps and cells: where an image lies, as one number by which tables are kept in order.
--
-- A cap is the small circle that bounds a place: a point of the place (x, y, z) and an angle; its core, the largest one
-- about that point that the place fills. Cells are rows of two degrees of latitude, each cut into
-- round(180 cos(latitude)) parts, so that all have nearly one area; row r, part c is number 256 r + c. In front of it
-- stands the class of the extent (how far the ground that an image may show lies from that point: cap + reach), times
-- 32768: a search widens its circle class by class, so that one huge footprint does not widen it for all.
--   class     0      1       2       3        4        5     6            7
--   extent  1 m  100 km  400 km  1200 km  2501 km  6000 km  any          no place
-- Classes 6 and 7 know no cells: 6 is looked through by every search near a place, 7 by none.
drop function if exists geosearch.place_cap;
drop function if exists geosearch.cell;
drop function if exists geosearch.class_extent;
drop function if exists geosearch.cell_ranges;

create function geosearch.place_cap(
    place geography, out x float8, out y float8, out z float8, out cap float8, out core float8)
language plpgsql
immutable
strict
parallel safe
set search_path from current
as $$
declare
    shape geometry := place::geometry;
    centre geometry;
    lat float8;
    lon float8;
    points geometry[];
    area constant boolean := geometrytype(shape) in ('POLYGON', 'MULTIPOLYGON');
    total float8[];
begin
    if geometrytype(shape) = 'POINT' then
        centre := shape;
        cap := 0;
    else
        -- Without the first point of a ring, which is the last one too.
        select array_agg(p.geom) into points from st_dumppoints(shape) p
        where not area or p.path[cardinality(p.path)] > 1;
        select array[sum(cos(radians(st_y(p))) * cos(radians(st_x(p)))),
                     sum(cos(radians(st_y(p))) * sin(radians(st_x(p)))), sum(sin(radians(st_y(p))))]
        into total from unnest(points) p;
        -- The middle of the corners, if the place has it; else some point of the place. Not of the place, it could
        -- accept nothing. Without a direction (corners all round the Earth) there is no middle.
        if total[1] ^ 2 + total[2] ^ 2 + total[3] ^ 2 > 1e-12 then
            centre := st_setsrid(st_makepoint(degrees(atan2(total[2], total[1])),
                degrees(atan2(total[3], sqrt(total[1] ^ 2 + total[2] ^ 2)))), 4326);
        end if;
        if centre is null or st_distance(centre::geography, place) > 0 then
            centre := st_pointonsurface(shape);
            if st_distance(centre::geography, place) > 0 then
                centre := points[1];
            end if;
        end if;
    end if;
    lat := radians(st_y(centre));
    lon := radians(st_x(centre));
    x := cos(lat) * cos(lon);
    y := cos(lat) * sin(lon);
    z := sin(lat);
    if cap is null then
        -- The farthest point of an edge is a corner as long as all corners are within 90 degrees; the rest is no cap.
        select max(acos(least(1, greatest(-1, x * cos(radians(st_y(p))) * cos(radians(st_x(p)))
            + y * cos(radians(st_y(p))) * sin(radians(st_x(p))) + z * sin(radians(st_y(p)))))))
        into cap from unnest(points) p;
        cap := case when cap < 1.56 then cap + 1e-7 else pi() end;
    end if;
    -- On the sphere, from a distance on the spheroid (30_search_source.sql); a metre is left for rounding.
    core := case when area then
        greatest(0, st_distance(centre::geography, st_boundary(shape)::geography) * (1 - 0.0057) - 1) / 6371008.77
        else 0 end;
end $$;
comment on function geosearch.place_cap is
    'The cap of a place: the unit vector of one of its points, the angle in radians beyond which nothing of the place '
    'lies from there (cap; pi where it is more than about 90 degrees), and the one within which all does (core).';

create function geosearch.cell(x float8, y float8, z float8, extent_m float8)
returns int
language sql
immutable
parallel safe
set search_path from current
as $$
    -- Banks are built with it in the owner's name: each number is of the very type that the operator before it takes, lest
    -- one be found that others made in the schema of an extension.
    select case
        when extent_m > 6e6::float8 then 6 * 32768
        else pg_catalog.width_bucket(extent_m, array[1.0000001, 100001, 400001, 1200001, 2501000]::float8[]) * 32768
             + r * 256 + least(n - 1, floor((degrees(atan2(y, x)) + 180::float8) / 360::float8 * n::float8)::int) end
    from (select r, round(180::float8 * cos(radians((2 * r - 89)::float8)))::int as n
          from (select least(89, floor((degrees(asin(least(1::float8, greatest(-1::float8, z)))) + 90::float8)
                                       / 2::float8)::int) as r) latitude) parts
$$;
comment on function geosearch.cell is
    'The number of the cell of a unit vector, with the class of the extent (metres, cap and reach together) before it.';

create function geosearch.class_extent(class int)
returns float8
language sql
immutable
parallel safe
set search_path from current
as $$ select (array[1.0000001, 100001, 400001, 1200001, 2501000, 6e6])[class + 1] $$;
comment on function geosearch.class_extent is 'The widest extent of a class, in metres; null for those without cells.';

-- For a circle of angle alpha about (lat, lon), a parallel phi is inside as far as acos(f(phi)) from the circle's
-- meridian, f(phi) = (cos alpha - sin lat sin phi) / (cos lat cos phi). Within a row f is least and greatest at an edge
-- or where sin phi = sin lat / cos alpha. A loop: as one statement this took 2.7 ms, and nearly all of it for planning.
create function geosearch.cell_ranges(
    x float8, y float8, z float8, near_rad float8, far_rad float8, class int,
    out inside_lo int[], out inside_hi int[], out border_lo int[], out border_hi int[])
language plpgsql
immutable
parallel safe
set search_path from current
as $$
declare
    -- A hair beside the pole, where the meridians would meet: 11 cm, within every caller's margin.
    lat constant float8 := greatest(-1.570796309, least(1.570796309, asin(least(1, greatest(-1, z)))));
    east constant float8 := degrees(atan2(y, x)) + 180;
    sine constant float8 := sin(lat);
    cosine constant float8 := cos(lat);
    far_cos constant float8 := cos(least(far_rad, pi()));
    near_cos constant float8 := cos(greatest(0, least(near_rad, pi())));
    -- The parallel at which a circle reaches farthest east and west.
    far_top constant float8 := case when abs(sine) <= abs(far_cos) then asin(sine / far_cos) end;
    near_top constant float8 := case when abs(sine) <= abs(near_cos) then asin(sine / near_cos) end;
    south float8;
    north float8;
    near float8;
    far float8;
    w float8;
    base int;
    n int;
    i int;  -- inner parts i … j, outer parts lo … hi, counted eastward from 180 W and beyond either end
    j int;
    lo int;
    hi int;
begin
    for r in greatest(0, floor((degrees(lat - far_rad) + 90) / 2)::int)
             .. least(89, floor((degrees(lat + far_rad) + 90) / 2)::int) loop
        south := radians(2 * r - 90);
        north := radians(2 * r - 88);
        n := round(180 * cos(south + 0.017453292519943295));
        base := class * 32768 + r * 256;
        far := least((far_cos - sine * sin(south)) / (cosine * cos(south)),
                     (far_cos - sine * sin(north)) / (cosine * cos(north)));
        if far_top > south and far_top < north then
            far := least(far, (far_cos - sine * sin(far_top)) / (cosine * cos(far_top)));
        end if;
        near := greatest((near_cos - sine * sin(south)) / (cosine * cos(south)),
                         (near_cos - sine * sin(north)) / (cosine * cos(north)));
        if near_top > south and near_top < north then
            near := greatest(near, (near_cos - sine * sin(near_top)) / (cosine * cos(near_top)));
        end if;

        i := null;
        if near_rad >= pi() or (near <= -1 and near_rad > 0) then
            i := 0;
            j := n - 1;
        elsif near < 1 and near_rad > 0 then
            w := degrees(acos(near)) - 1e-9;
            i := ceil((east - w) / 360 * n);
            j := least(floor((east + w) / 360 * n)::int - 1, i + n - 1);
            if j < i then
                i := null;
            end if;
        end if;
        w := case when far >= 1 then 1e-9 else degrees(acos(greatest(-1, far))) + 1e-9 end;
        lo := floor((east - w) / 360 * n);
        hi := floor((east + w) / 360 * n);
        if far <= -1 or far_rad >= pi() or hi - lo >= n - 1 then
            lo := coalesce(i, 0);
            hi := lo + n - 1;
        end if;

        -- Brought within the row; what crosses 180 degrees becomes two. m: whole turns.
        for m in -1 .. 1 loop
            if i is not null and i < m * n + n and j >= m * n then
                inside_lo := inside_lo || base + greatest(i - m * n, 0);
                inside_hi := inside_hi || base + least(j - m * n, n - 1);
            end if;
            if lo < coalesce(i, hi + 1) and lo < m * n + n and coalesce(i - 1, hi) >= m * n then
                border_lo := border_lo || base + greatest(lo - m * n, 0);
                border_hi := border_hi || base + least(coalesce(i - 1, hi) - m * n, n - 1);
            end if;
            if j < hi and i is not null and j + 1 < m * n + n and hi >= m * n then
                border_lo := border_lo || base + greatest(j + 1 - m * n, 0);
                border_hi := border_hi || base + least(hi - m * n, n - 1);
            end if;
        end loop;
    end loop;
end $$;
comment on function geosearch.cell_ranges is
    'The cells of a circle about a unit vector, as ranges of the numbers of a class: those wholly within near_rad, and '
    'the others that reach within far_rad (radians). Null where there are none.';

revoke all on function geosearch.place_cap, geosearch.cell, geosearch.class_extent, geosearch.cell_ranges from public;
grant execute on function geosearch.place_cap, geosearch.cell, geosearch.class_extent, geosearch.cell_ranges
    to geosearch_admin, geosearch_ingest, geosearch_read;
