-- The place that an image is encoded with, by a model that reads places beside pixels: said here once, for embedding,
-- training and evaluation alike.
drop function if exists geosearch.encoded_place;

create function geosearch.encoded_place(nadir geography, footprint geography, problems text[] default '{}')
returns geography
language plpgsql
immutable
parallel safe
set search_path from current
as $$
declare
    total float8[];
begin
    -- A nadir from which the footprint cannot be seen (geosearch/catalog/problems.py) says nothing. Which problems there
    -- are may be unknown (null).
    if nadir is not null and not coalesce('impossible nadir' = any (problems), false) then
        return nadir;
    end if;
    -- A tile is seen from above: the middle of its corners, without the first of a ring, which is the last one too.
    select array[sum(cos(p.lat) * cos(p.lon)), sum(cos(p.lat) * sin(p.lon)), sum(sin(p.lat))] into total
    from (select radians(st_y(d.geom)) as lat, radians(st_x(d.geom)) as lon
          from st_dumppoints(footprint::geometry) d where d.path[cardinality(d.path)] > 1) p;
    -- Corners all round the Earth have no middle, and without a footprint there are none.
    if total[1] ^ 2 + total[2] ^ 2 + total[3] ^ 2 > 1e-12 then
        return st_setsrid(st_makepoint(degrees(atan2(total[2], total[1])),
            degrees(atan2(total[3], sqrt(total[1] ^ 2 + total[2] ^ 2)))), 4326)::geography;
    end if;
    return null;
end $$;
comment on function geosearch.encoded_place is
    'The place that a model which reads places gets beside an image''s pixels: its nadir; without one, or where it is '
    'flagged as impossible, the middle of its footprint; null where neither is known.';

revoke all on function geosearch.encoded_place from public;
grant execute on function geosearch.encoded_place to geosearch_admin, geosearch_ingest, geosearch_read;
