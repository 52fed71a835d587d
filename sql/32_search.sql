-- What people call: searches, their plans, and the candidates for who ranks them elsewhere. The work is done by
-- search_best (31_search_best.sql).
drop function if exists geosearch.similar;
drop function if exists geosearch.search_plan;
drop function if exists geosearch.search;
drop function if exists geosearch.search_count;
drop function if exists geosearch.search_account;
drop function if exists geosearch.search_many;
drop function if exists geosearch.candidates;
drop function if exists geosearch.embedding_of;

create function geosearch.search(
    space text, query vector, near geography default null, radius_m float8 default 2500000, k int default 10,
    archive text default null, strategy text default 'auto', captured_from timestamptz default null,
    captured_to timestamptz default null, among bigint[] default null)
returns table (rank int, image_id bigint, name text, similarity float8, distance_m float8, geom geometry)
language plpgsql
stable
parallel unsafe
rows 10
set search_path from current
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    best record;
begin
    select * into best from geosearch.search_best(
        space, query, near, radius_m, k, archive, strategy, captured_from, captured_to, among);
    return query
        select b.n::int, b.id, i.name, 1 - b.distance, st_distance(coalesce(i.footprint, i.nadir), near),
               coalesce(i.footprint::geometry, i.nadir::geometry)
        from unnest(best.ids, best.distances) with ordinality b (id, distance, n)
        cross join lateral (select * from geosearch.image i where i.id = b.id offset 0) i
        order by b.n;
end $$;
comment on function geosearch.search is
    'The k images of a space most like a query vector, best first, within radius_m metres (plus their reach) of near; '
    'of one archive, taken from captured_from until before captured_to, among these ids. similarity is the cosine of '
    'the half-precision values; distance_m runs from near to the footprint, or to the nadir where there is none, and '
    'is null without near. Equal similarities come in the order of image_id. Never fewer than min(k, candidates).';

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
    archive text default null, strategy text default 'auto', captured_from timestamptz default null,
    captured_to timestamptz default null, among bigint[] default null)
returns table (rank int, image_id bigint, name text, similarity float8, distance_m float8, geom geometry)
language sql
stable
parallel unsafe
rows 10
set search_path from current
as $$ select * from geosearch.search($2, geosearch.embedding_of($2, $1), $3, $4, $5, $6, $7, $8, $9, $10) $$;
comment on function geosearch.similar is
    'Images like one that is already catalogued: search with the vector of that image, which is itself among the '
    'answers where it lies in the circle.';

create function geosearch.search_many(
    space text, queries vector[], near geography default null, radius_m float8 default 2500000, k int default 10,
    archive text default null, strategy text default 'auto', captured_from timestamptz default null,
    captured_to timestamptz default null, among bigint[] default null)
returns table (
    query int, rank int, image_id bigint, name text, similarity float8, distance_m float8, geom geometry)
language plpgsql
stable
parallel unsafe
set search_path from current
as $$
begin
    if queries is null or array_ndims(queries) <> 1 then
        raise invalid_parameter_value using
            message = 'queries is no list of vectors', hint = 'Give array[v1, v2, …]::vector[].';
    end if;
    for n in 1 .. cardinality(queries) loop
        return query select n, s.* from geosearch.search(
            space, queries[array_lower(queries, 1) + n - 1], near, radius_m, k, archive, strategy, captured_from,
            captured_to, among) s;
    end loop;
end $$;
comment on function geosearch.search_many is
    'Several searches in one call: for each vector of queries, numbered from 1, the rows of search.';

create function geosearch.candidates(
    space text, near geography default null, radius_m float8 default 2500000, archive text default null,
    captured_from timestamptz default null, captured_to timestamptz default null, among bigint[] default null)
returns table (image_id bigint, version bigint)
language plpgsql
stable
parallel restricted
rows 10000
set search_path from current
set max_parallel_workers_per_gather = 0
set jit = off
set enable_seqscan = off
as $$
declare
    s record;
begin
    select * into s from geosearch.search_source(
        geosearch.space_of(space), near, radius_m, archive, captured_from, captured_to, among, 'version');
    return query execute 'select c.image_id, c.version from (' || s.source || ') c'
        using null::halfvec, near, radius_m, s.archive_id, captured_from, captured_to, among, s.numbers,
            s.inside_lo, s.inside_hi, s.border_lo, s.border_hi;
end $$;
comment on function geosearch.candidates is
    'All candidates of a search, in no order, each with the version of its vector: what a re-ranker outside takes.';

-- Apart from search_plan because PL/pgSQL lets no column of the answer have the name of an argument.
create function geosearch.search_account(
    space text, query vector, near geography, radius_m float8, k int, archive text, strategy text,
    captured_from timestamptz, captured_to timestamptz, among bigint[],
    out chosen text, out estimated bigint, out candidates bigint, out returned int, out ids bigint[],
    out distances float8[])
language plpgsql
stable
parallel unsafe
set search_path from current
set max_parallel_workers_per_gather = 0
set jit = off
set enable_seqscan = off
as $$
declare
    found_space constant geosearch.space := geosearch.space_of(space);
    best record;
    s record;
begin
    select * into best from geosearch.search_best(
        space, query, near, radius_m, k, archive, strategy, captured_from, captured_to, among);
    chosen := best.chosen;
    ids := best.ids;
    distances := best.distances;
    returned := coalesce(cardinality(best.ids), 0);
    select * into s from geosearch.search_source(
        found_space, near, radius_m, archive, captured_from, captured_to, among, 'version');
    execute 'select count(*) from (' || s.source || ') c' into candidates
        using null::halfvec, near, radius_m, s.archive_id, captured_from, captured_to, among, s.numbers,
            s.inside_lo, s.inside_hi, s.border_lo, s.border_hi;
    estimated := case
        when among is not null then cardinality(among)
        when best.estimated is not null then best.estimated
        else (select round(e.estimated) from geosearch.search_estimate(
                  found_space, s.numbers, s.archive_id, captured_from, captured_to, s.inside_lo, s.inside_hi, s.border_lo,
                  s.border_hi) e) end;
end $$;
comment on function geosearch.search_account is
    'What search_plan tells, with the answers themselves. Used by search_plan and by clients that show both.';

create function geosearch.search_plan(
    space text, query vector, near geography default null, radius_m float8 default 2500000, k int default 10,
    archive text default null, strategy text default 'auto', captured_from timestamptz default null,
    captured_to timestamptz default null, among bigint[] default null)
returns table (strategy text, estimated bigint, candidates bigint, requested int, returned int, exhausted boolean)
language sql
stable
parallel unsafe
rows 1
set search_path from current
as $$
    select a.chosen, a.estimated, a.candidates, $5, a.returned, a.candidates <= $5
    from geosearch.search_account($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) a
$$;
comment on function geosearch.search_plan is
    'What a search with the same arguments does, one row: the strategy that answered, the candidates as estimated and '
    'as counted, how many images are asked for and returned, and whether the candidates are exhausted (all of them '
    'are returned).';

revoke all on function
    geosearch.search, geosearch.embedding_of, geosearch.similar, geosearch.search_many, geosearch.candidates,
    geosearch.search_account, geosearch.search_plan
    from public;
grant execute on function
    geosearch.search, geosearch.embedding_of, geosearch.similar, geosearch.search_many, geosearch.candidates,
    geosearch.search_account, geosearch.search_plan
    to geosearch_admin, geosearch_ingest, geosearch_read;
