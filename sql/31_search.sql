-- Search: the images most like a vector. Three strategies, one answer: exact looks at every candidate, hnsw walks the
-- approximate index until it has enough of them and orders those exactly, auto takes the cheaper by an estimate of the
-- candidates; whenever the walk came short, exact answers. A space of more than 3 900 dimensions keeps its vectors
-- apart from its rows: there hnsw compares sign codes first.
select '[1]'::vector;  -- loads the library: only then may who is not a superuser set hnsw.* for a function
drop function if exists geosearch.similar;
drop function if exists geosearch.search_plan;
drop function if exists geosearch.search;
drop function if exists geosearch.search_count;
drop function if exists geosearch.search_account;
drop function if exists geosearch.search_many;
drop function if exists geosearch.candidates;
drop function if exists geosearch.search_best;
drop function if exists geosearch.search_estimate;
drop function if exists geosearch.embedding_of;

create function geosearch.search_estimate(
    found_space geosearch.space, numbers float8[], archive_id int, captured_from timestamptz, captured_to timestamptz,
    inside_lo int[], inside_hi int[], border_lo int[], border_hi int[], out total float8, out scanned float8,
    out estimated float8)
language plpgsql
stable
parallel restricted
set search_path from current
as $$
declare
    relation constant text := 'space_' || found_space.name;
    share float8;
begin
    total := found_space.counted;
    if total is null then
        -- Never counted: what the planner knows, and the circle's share of the sphere.
        select greatest(c.reltuples, 0) into total
        from pg_catalog.pg_class c where c.oid = format('geosearch.%I', relation)::regclass;
        scanned := total * (1 - cos(least(pi(), coalesce(numbers[6], pi())))) / 2;
        estimated := scanned;
    elsif numbers is null then
        scanned := total;
        estimated := total;
    else
        -- About half of a cell on the border lies within.
        select coalesce(sum(n.images), 0), coalesce(sum(n.images * g.share), 0) into scanned, estimated
        from (select unnest(inside_lo), unnest(inside_hi), 1 union all select unnest(border_lo), unnest(border_hi), 0.5)
             g (lo, hi, share)
        cross join lateral (select sum(c.images) as images from geosearch.cell_count c
                            where c.space_id = found_space.id and c.cell between g.lo and g.hi offset 0) n;
    end if;
    if archive_id is not null then
        select (s.most_common_freqs)[array_position(s.most_common_vals::text::int[], archive_id)] into share
        from pg_catalog.pg_stats s
        where s.schemaname = 'geosearch' and s.tablename = relation and s.attname = 'archive_id';
        estimated := estimated * coalesce(share, 0.1);
    end if;
    if captured_from is not null or captured_to is not null then
        estimated := estimated / 4;
    end if;
end $$;
comment on function geosearch.search_estimate is
    'How many rows a search would look at, and how many candidates it has: from counts per cell. Used by the searches.';

-- parallel unsafe, it and all that call it: set_config is refused while a query runs in parallel, be it elsewhere in it.
create function geosearch.search_best(
    space text, query vector, near geography, radius_m float8, k int, archive text, strategy text,
    captured_from timestamptz, captured_to timestamptz, among bigint[],
    out ids bigint[], out distances float8[], out chosen text, out estimated bigint)
language plpgsql
stable
parallel unsafe
set search_path from current
-- Parallel workers and compilation cost more than they bring: st_distance is priced for far larger inputs.
set max_parallel_workers_per_gather = 0
set jit = off
-- What is known beforehand is planned once; the statement of the candidates is planned for its own values all the same.
set plan_cache_mode = force_generic_plan
-- The planner takes a circle for a handful of rows, and a range of cells for half a percent of the table.
set enable_seqscan = off
-- A walk through the index goes on until it has enough. Its limits are generous: what they stop, exact answers.
set hnsw.iterative_scan = relaxed_order
set hnsw.ef_search = 100
set hnsw.max_scan_tuples = 60000
set hnsw.scan_mem_multiplier = 8
as $$
declare
    found_space constant geosearch.space := geosearch.space_of(space);
    length float8;
    unit halfvec;
    code varbit;  -- a variable of type bit would be one bit long
    s record;
    e record;
    fetch_rows int;
begin
    -- Every argument is checked here or in search_source, once for all searches.
    if query is null then
        raise null_value_not_allowed using
            message = 'the query vector is null', hint = 'Give the vector of an image or a text.';
    elsif vector_dims(query) <> found_space.dimension then
        raise data_exception using
            message = format('space %s holds vectors of %s dimensions, the query has %s',
                             space, found_space.dimension, vector_dims(query)),
            hint = 'Make the query with the model of that space.';
    end if;
    length := vector_norm(query);
    if length = 0 then
        raise invalid_parameter_value using
            message = 'the query vector is zero and has no direction', hint = 'Give a vector that is not all zeros.';
    elsif k is null or k < 1 then
        raise invalid_parameter_value using
            message = format('k is %s', coalesce(k::text, 'null')), hint = 'Ask for at least 1 image.';
    elsif strategy is null or strategy not in ('auto', 'exact', 'hnsw') then
        raise invalid_parameter_value using
            message = format('no strategy is named %L', strategy), hint = 'Use auto, exact or hnsw.';
    elsif strategy = 'hnsw' and found_space.indexed_as is null then
        raise object_not_in_prerequisite_state using
            message = format('space %s has no approximate index', space),
            hint = 'Make it: geosearch space index ' || space || '. Or use auto or exact.';
    end if;
    -- Rounded to half precision as the stored vectors are; scaled first only where that would overflow or vanish.
    unit := case when length between 0.01 and 1000 then query::halfvec else l2_normalize(query)::halfvec end;
    select * into s from geosearch.search_source(
        found_space, near, radius_m, archive, captured_from, captured_to, among, 'distance');

    chosen := 'exact';
    -- More than k are taken from the walk and ordered exactly, for its order is only nearly right.
    fetch_rows := case when found_space.indexed_as = 'bit' then 20 else 4 end * least(k, 50000000) + 100;
    if among is not null then
        null;  -- looked up by id, whatever the strategy: a walk knows nothing of them
    elsif strategy = 'hnsw' then
        chosen := 'hnsw';
    elsif strategy = 'auto' and found_space.indexed_as is not null then
        select * into e from geosearch.search_estimate(found_space, s.numbers, s.archive_id, captured_from, captured_to,
            s.inside_lo, s.inside_hi, s.border_lo, s.border_hi);
        estimated := round(e.estimated);
        -- Microseconds, measured: a row looked at in order, and a step of the walk, of which every one in
        -- total / estimated meets a candidate.
        if e.estimated > 2 * fetch_rows and 3000 + 10 * (100 + fetch_rows * e.total / e.estimated)
               < e.scanned * (case when found_space.dimension > 3900 then 25 else 0.2 + 0.0003 * found_space.dimension end)
        then
            chosen := 'hnsw';
        end if;
    end if;

    if chosen = 'hnsw' then
        perform set_config('hnsw.ef_search', least(1000, greatest(100, fetch_rows))::text, true);
        if found_space.indexed_as = 'bit' then
            code := geosearch.sign_code(unit, found_space.centre);
        end if;
        execute format(
            'select array_agg(b.image_id), array_agg(b.distance) from ('
            ' select c.image_id, 0 + (c.embedding <=> $1) as distance from ('
            ' select s.image_id, s.embedding from geosearch.%I s where true%s order by %s limit $14) c'
            ' order by 2, 1 limit $13) b', 'space_' || space, s.condition,
            case found_space.indexed_as when 'bit' then format('s.code <~> $15::bit(%s)', found_space.dimension)
                 else 's.embedding <=> $1' end)
            into ids, distances using unit, near, radius_m, s.archive_id, captured_from, captured_to, among, s.numbers,
                s.inside_lo, s.inside_hi, s.border_lo, s.border_hi, k, fetch_rows, code;
        if cardinality(ids) = k then
            return;
        end if;
        chosen := 'exact';  -- the walk ended before it had met enough
    end if;

    if near is null and among is null then
        perform set_config('enable_seqscan', 'on', true);
    end if;
    execute 'select array_agg(b.image_id), array_agg(b.distance) from (select * from (' || s.source || ') c'
        ' order by c.distance, c.image_id limit $13) b'
        into ids, distances using unit, near, radius_m, s.archive_id, captured_from, captured_to, among, s.numbers,
            s.inside_lo, s.inside_hi, s.border_lo, s.border_hi, k;
end $$;
comment on function geosearch.search_best is
    'The answers of a search as arrays, best first, with the strategy that found them. Used by the searches.';

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
comment on function geosearch.search_account is 'What search_plan tells, with the answers themselves. Used by search_plan and by clients that show both.';

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
    geosearch.search_estimate, geosearch.search_best, geosearch.search, geosearch.embedding_of, geosearch.similar,
    geosearch.search_many, geosearch.candidates, geosearch.search_account, geosearch.search_plan
    from public;
grant execute on function
    geosearch.search_estimate, geosearch.search_best, geosearch.search, geosearch.embedding_of, geosearch.similar,
    geosearch.search_many, geosearch.candidates, geosearch.search_account, geosearch.search_plan
    to geosearch_admin, geosearch_ingest, geosearch_read;
