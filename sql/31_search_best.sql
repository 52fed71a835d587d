-- Search: the images most like a vector. Three strategies, one answer: exact looks at every candidate, hnsw walks the
-- approximate index until it has enough of them and orders those exactly, auto takes the cheaper by an estimate of the
-- candidates; whenever the walk came short, exact answers. A space of more than 3 900 dimensions keeps its vectors
-- apart from its rows: there hnsw compares sign codes first.
drop function if exists geosearch.search_best;
drop function if exists geosearch.search_scan;
drop function if exists geosearch.search_estimate;

-- Who is not a superuser may set hnsw.* for a function only where pgvector's library is loaded. The constant here loads
-- it when this is made, and when a dump is restored as well: there functions come in the order of their names.
create or replace function geosearch.pgvector_loaded()
returns boolean
language sql
immutable
parallel safe
set search_path from current
return '[1]'::vector is not null;
comment on function geosearch.pgvector_loaded is
    'Loads pgvector''s library; without it, who is not a superuser could not restore a dump of what searches.';

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

-- Only a whole space is worth parallel workers, and PL/pgSQL gives them to `return query` alone.
create function geosearch.search_scan(
    found_space geosearch.space, unit halfvec, archive text, captured_from timestamptz, captured_to timestamptz, k int)
returns table (image_id bigint, distance float8)
language plpgsql
stable
parallel restricted
set search_path from current
set jit = off
set enable_seqscan = on
set max_parallel_workers_per_gather = 2
as $$
declare
    s record;
begin
    select * into s from geosearch.search_source(
        found_space, null, 0, archive, captured_from, captured_to, null, 'distance');
    return query execute 'select * from (' || s.source || ') c order by c.distance, c.image_id limit $7'
        using unit, null::geography, null::float8, s.archive_id, captured_from, captured_to, k;
end $$;
comment on function geosearch.search_scan is
    'The best of a whole space, looked through from end to end. Used by search_best.';

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
    met int;
    exact_us float8;
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
    -- Many more than k are taken from the walk and ordered exactly: with 4 k + 100 it found 975 of 1 000, with these 995.
    fetch_rows := case when found_space.indexed_as = 'bit' then 30 else 10 end * least(k, 50000000) + 200;
    if among is not null then
        null;  -- looked up by id, whatever the strategy: a walk knows nothing of them
    elsif strategy = 'hnsw' then
        chosen := 'hnsw';
    elsif strategy = 'auto' and found_space.indexed_as is not null then
        select * into e from geosearch.search_estimate(found_space, s.numbers, s.archive_id, captured_from, captured_to,
            s.inside_lo, s.inside_hi, s.border_lo, s.border_hi);
        estimated := round(e.estimated);
        -- Microseconds, measured: a row looked at in order, and a step of the walk, of which one in total / estimated
        -- meets a candidate. Below 40 ms nothing is won that would be worth an answer that is only nearly exact.
        exact_us := e.scanned * (case when found_space.dimension > 3900 then 25
                                 else 0.3 + 0.0005 * found_space.dimension end);
        if exact_us > 40000 and e.estimated > 2 * fetch_rows
           and 1.3 * (3000 + 10 * (100 + fetch_rows * e.total / e.estimated)) < exact_us
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
            'with walked as materialized (select c.image_id, 0 + (c.embedding <=> $1) as distance from ('
            ' select s.image_id, s.embedding from geosearch.%I s where true%s order by %s limit $14) c)'
            ' select array_agg(b.image_id), array_agg(b.distance), (select count(*) from walked)'
            ' from (select * from walked w order by w.distance, w.image_id limit $13) b', 'space_' || space, s.condition,
            case found_space.indexed_as when 'bit' then format('s.code <~> $15::bit(%s)', found_space.dimension)
                 else 's.embedding <=> $1' end)
            into ids, distances, met using unit, near, radius_m, s.archive_id, captured_from, captured_to, among,
                s.numbers, s.inside_lo, s.inside_hi, s.border_lo, s.border_hi, k, fetch_rows, code;
        if met = fetch_rows then
            return;
        end if;
        chosen := 'exact';  -- the walk ended too soon: what it met may be few, or the first that came
    end if;

    if near is null and among is null then
        select array_agg(c.image_id), array_agg(c.distance) into ids, distances
        from geosearch.search_scan(found_space, unit, archive, captured_from, captured_to, k) c;
        return;
    end if;
    execute 'select array_agg(b.image_id), array_agg(b.distance) from (select * from (' || s.source || ') c'
        ' order by c.distance, c.image_id limit $13) b'
        into ids, distances using unit, near, radius_m, s.archive_id, captured_from, captured_to, among, s.numbers,
            s.inside_lo, s.inside_hi, s.border_lo, s.border_hi, k;
end $$;
comment on function geosearch.search_best is
    'The answers of a search as arrays, best first, with the strategy that found them. Used by the searches.';

revoke all on function
    geosearch.pgvector_loaded, geosearch.search_estimate, geosearch.search_scan, geosearch.search_best
    from public;
grant execute on function
    geosearch.search_estimate, geosearch.search_scan, geosearch.search_best
    to geosearch_admin, geosearch_ingest, geosearch_read;
