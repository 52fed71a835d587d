-- Search: the images most like a vector, within a circle. One strategy so far: exact.
--
-- An image is a candidate when st_distance(place, near) <= radius + reach on the spheroid, place being its footprint,
-- or its nadir where there is no footprint. The index only narrows: its boxes are widened by 10 m, because at radius 0
-- PostGIS's own box test misses a row exactly at a pole.
drop function if exists geosearch.similar;
drop function if exists geosearch.search_plan;
drop function if exists geosearch.search;
drop function if exists geosearch.search_count;
drop function if exists geosearch.search_source;
drop function if exists geosearch.embedding_of;

create function geosearch.search_source(
    space text, query vector, near geography, radius_m float8, k int, archive text, strategy text,
    out source text, out unit halfvec, out far_m float8, out archive_id int)
language plpgsql
stable
parallel restricted
set search_path from current
as $$
declare
    dimension int;
    length float8;
    filter text := '';
begin
    -- Every argument is checked here, once for search and search_plan.
    select s.dimension into dimension from geosearch.space s where s.name = search_source.space;
    if not found then
        raise undefined_object using
            message = case when space is null then 'a search needs a space' else format('no space is named %L', space) end,
            hint = 'Spaces: ' || coalesce((select string_agg(s.name, ', ' order by s.name) from geosearch.space s),
                                          'none yet; geosearch.create_space makes one') || '.';
    end if;
    if query is null then
        raise null_value_not_allowed using
            message = 'the query vector is null', hint = 'Give the vector of an image or a text.';
    elsif vector_dims(query) <> dimension then
        raise data_exception using
            message = format('space %s holds vectors of %s dimensions, the query has %s',
                             space, dimension, vector_dims(query)),
            hint = 'Make the query with the model of that space.';
    end if;
    length := vector_norm(query);
    if length = 0 then
        raise invalid_parameter_value using
            message = 'the query vector is zero and has no direction', hint = 'Give a vector that is not all zeros.';
    end if;
    -- Rounded to half precision as the stored vectors are; scaled first only where that would overflow or vanish.
    unit := case when length between 0.01 and 1000 then query::halfvec else l2_normalize(query)::halfvec end;

    if k is null or k < 1 then
        raise invalid_parameter_value using
            message = format('k is %s', coalesce(k::text, 'null')), hint = 'Ask for at least 1 image.';
    elsif radius_m is null or not (radius_m >= 0 and radius_m < 'infinity') then
        raise invalid_parameter_value using
            message = format('radius_m is %s', coalesce(radius_m::text, 'null')),
            hint = 'Give metres, 0 or more; leave out near to search the whole Earth.';
    elsif strategy = 'hnsw' then
        raise feature_not_supported using
            message = 'strategy hnsw is not available in this release', hint = 'Use exact or auto.';
    elsif strategy is null or strategy not in ('auto', 'exact') then
        raise invalid_parameter_value using
            message = format('no strategy is named %L', strategy), hint = 'Use exact or auto.';
    end if;
    if archive is not null then
        select a.id into archive_id from geosearch.archive a where a.name = search_source.archive;
        if not found then
            raise undefined_object using
                message = format('no archive is named %L', archive),
                hint = 'Archives: ' || coalesce((select string_agg(a.name, ', ' order by a.name) from geosearch.archive a),
                                                'none yet') || '.';
        end if;
        filter := ' and i.archive_id = $5';
    end if;

    source := format('geosearch.%I s', 'space_' || space);
    if near is not null then
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
        source := source || ' join (select i.id from geosearch.image i where i.reach_m = 0'
            ' and coalesce(i.footprint, i.nadir) && _st_expand($2, least($3 + 10, 3e7))'
            ' and st_distance(coalesce(i.footprint, i.nadir), $2) <= $3' || filter;
        -- Images with a reach have a wider circle of their own: the widest one narrows, each one's own decides.
        select max(i.reach_m) into far_m from geosearch.image i where i.reach_m > 0;
        if far_m is not null then
            source := source || ' union all select i.id from geosearch.image i where i.reach_m > 0'
                ' and coalesce(i.footprint, i.nadir) && _st_expand($2, least($3 + $4 + 10, 3e7))'
                ' and st_distance(coalesce(i.footprint, i.nadir), $2) <= $3 + i.reach_m' || filter;
        end if;
        source := source || ') c on c.id = s.image_id';
    elsif archive is not null then
        source := source || ' join geosearch.image i on i.id = s.image_id' || filter;
    end if;
end $$;
comment on function geosearch.search_source is
    'Checks the arguments of a search and returns the from clause of its candidates. Used by search and search_plan.';

create function geosearch.search(
    space text, query vector, near geography default null, radius_m float8 default 2500000, k int default 10,
    archive text default null, strategy text default 'auto')
returns table (rank int, image_id bigint, name text, similarity float8, distance_m float8, geom geometry)
language plpgsql
stable
parallel restricted
rows 10
set search_path from current
-- Parallel workers and compilation cost more than they bring: st_distance is priced for far larger inputs.
set max_parallel_workers_per_gather = 0
set jit = off
-- Whatever the server says: with 1.1 rows are fetched in the order of the index, page by page again and again.
set random_page_cost = 4
as $$
declare
    s record;
begin
    select * into s from geosearch.search_source(space, query, near, radius_m, k, archive, strategy);
    -- 0 + keeps the planner from an approximate index, should somebody have made one over the vectors.
    return query execute
        'select row_number() over (order by best.distance, best.image_id)::int, best.image_id, i.name,'
        ' 1 - best.distance, st_distance(coalesce(i.footprint, i.nadir), $2),'
        ' coalesce(i.footprint::geometry, i.nadir::geometry)'
        ' from (select s.image_id, 0 + (s.embedding <=> $1) as distance from ' || s.source ||
        ' order by 2, 1 limit $6) best join geosearch.image i on i.id = best.image_id'
        ' order by best.distance, best.image_id'
        using s.unit, near, radius_m, s.far_m, s.archive_id, k;
end $$;
comment on function geosearch.search is
    'The k images of a space most like a query vector, best first, within radius_m metres (plus their reach) of near. '
    'similarity is the cosine of the half-precision values; distance_m runs from near to the footprint, or to the '
    'nadir where there is none, and is null without near. Equal similarities come in the order of image_id.';

create function geosearch.embedding_of(space text, image_id bigint)
returns vector
language plpgsql
stable
parallel restricted
set search_path from current
as $$
declare
    found_vector vector;
begin
    if space is null or not exists (select from geosearch.space s where s.name = embedding_of.space) then
        raise undefined_object using
            message = case when space is null then 'no space is given' else format('no space is named %L', space) end,
            hint = 'Spaces: ' || coalesce((select string_agg(s.name, ', ' order by s.name) from geosearch.space s),
                                          'none yet; geosearch.create_space makes one') || '.';
    end if;
    execute format('select embedding::vector from geosearch.%I where image_id = $1', 'space_' || space)
        into found_vector using image_id;
    if found_vector is null then
        if exists (select from geosearch.image i where i.id = embedding_of.image_id) then
            raise no_data_found using
                message = format('image %s has no vector in space %s', image_id, space),
                hint = 'Embed it first: geosearch embed --space ' || space || '.';
        end if;
        raise no_data_found using
            message = format('there is no image %s', coalesce(image_id::text, 'null')),
            hint = 'Find its id by name: select id from geosearch.image where name = ''...''.';
    end if;
    return found_vector;
end $$;
comment on function geosearch.embedding_of is 'The vector of an image in a space.';

create function geosearch.similar(
    image_id bigint, space text, near geography default null, radius_m float8 default 2500000, k int default 10,
    archive text default null, strategy text default 'auto')
returns table (rank int, image_id bigint, name text, similarity float8, distance_m float8, geom geometry)
language sql
stable
parallel restricted
rows 10
set search_path from current
as $$ select * from geosearch.search($2, geosearch.embedding_of($2, $1), $3, $4, $5, $6, $7) $$;
comment on function geosearch.similar is
    'Images like one that is already catalogued: search with the vector of that image, which is itself among the '
    'answers where it lies in the circle.';

-- Volatile because PostgreSQL lets only volatile functions run explain; it changes nothing.
create function geosearch.search_count(
    space text, query vector, near geography, radius_m float8, k int, archive text, strategy text,
    out estimated bigint, out candidates bigint)
language plpgsql
volatile
parallel restricted
set search_path from current
set max_parallel_workers_per_gather = 0
set jit = off
as $$
declare
    s record;
    plan json;
    images float8;
    vectors float8;
    boxed float8;
begin
    select * into s from geosearch.search_source(space, query, near, radius_m, k, archive, strategy);
    execute 'select count(*) from ' || s.source into candidates using s.unit, near, radius_m, s.far_m, s.archive_id;

    execute format('explain (format json) select from geosearch.%I', 'space_' || space) into plan;
    vectors := plan -> 0 -> 'Plan' -> 'Plan Rows';
    if near is null and archive is null then
        estimated := vectors;
        return;
    end if;
    execute 'explain (format json) select from geosearch.image' into plan;
    images := plan -> 0 -> 'Plan' -> 'Plan Rows';
    -- The planner takes st_dwithin for a handful of rows, but judges a bare box test well. As in the search itself,
    -- images with a reach have a box of their own.
    execute 'explain (format json) select from geosearch.image i where true'
        || case when near is null then '' else
               ' and coalesce(i.footprint, i.nadir) && _st_expand($1, least($2, 3e7))'
               || case when s.far_m is null then '' else ' and i.reach_m = 0' end end
        || case when archive is not null then ' and i.archive_id = $4' else '' end
        || case when near is null or s.far_m is null then '' else
               ' union all select from geosearch.image i where i.reach_m > 0'
               ' and coalesce(i.footprint, i.nadir) && _st_expand($1, least($2 + $3, 3e7))'
               || case when archive is not null then ' and i.archive_id = $4' else '' end end
        into plan using near, radius_m, s.far_m, s.archive_id;
    boxed := plan -> 0 -> 'Plan' -> 'Plan Rows';
    estimated := round(boxed * least(1, vectors / greatest(images, 1)));
end $$;
comment on function geosearch.search_count is
    'How many candidates a search has: as the planner estimates and as counted. Used by search_plan.';

create function geosearch.search_plan(
    space text, query vector, near geography default null, radius_m float8 default 2500000, k int default 10,
    archive text default null, strategy text default 'auto')
returns table (strategy text, estimated bigint, candidates bigint, requested int, returned int, exhausted boolean)
language sql
volatile
parallel restricted
rows 1
set search_path from current
as $$
    select 'exact', c.estimated, c.candidates, $5, least($5, c.candidates)::int, c.candidates <= $5
    from geosearch.search_count($1, $2, $3, $4, $5, $6, $7) c
$$;
comment on function geosearch.search_plan is
    'What a search with the same arguments does, one row: the strategy, the candidates as estimated and as counted, '
    'how many images are asked for and returned, and whether the candidates are exhausted (all of them are returned).';

revoke all on function
    geosearch.search_source, geosearch.search, geosearch.embedding_of, geosearch.similar, geosearch.search_count,
    geosearch.search_plan
    from public;
grant execute on function
    geosearch.search_source, geosearch.search, geosearch.embedding_of, geosearch.similar, geosearch.search_count,
    geosearch.search_plan
    to geosearch_admin, geosearch_ingest, geosearch_read;
