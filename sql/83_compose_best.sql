-- Composed retrieval (WeiCom, arXiv 2405.15587): images and texts in one question. A part is a vector q with a weight w,
-- negative for what is not wanted; |w| sum to 1. With s the cosine of a row and q, m and d the mean and deviation of s
-- over a population, z = sign(w) (s - m) / d, and the row's tail is the sum of |w| Q(z); its score 1 - tail.
--
-- In the distance 1 - s, z is a * distance + b, and the sum of |w| z over the parts is, but for a constant, the product of
-- the row with one vector, here called the direction. A row of tail T or less has a sum of at least
-- least_combined(T): one product a row tells who may be among the best. Whose tail T is comes from a look at rows that
-- are likely good: first in the index along the direction, or a sample.
drop function if exists geosearch.compose_best;

-- For hnsw.* below, as pgvector_loaded does in 31. In a dump compose comes first, whose defaults are vectors: enough.
do $$ begin perform '[1]'::vector; end $$;

create function geosearch.compose_best(
    space text, parts vector[], weights float8[], near geography, radius_m float8, k int, population text, strategy text,
    archive text, captured_from timestamptz, captured_to timestamptz, among bigint[], late text, method text,
    out ids bigint[], out tails float8[], out similarities float8[], out means float8[], out deviations float8[],
    out chosen text, out moments text, out touched bigint, out scored bigint)
language plpgsql
stable
parallel unsafe
set search_path from current
-- As in search_best. ef_search and what else belongs to the walk as well.
set max_parallel_workers_per_gather = 0
set jit = off
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set hnsw.iterative_scan = relaxed_order
set hnsw.ef_search = 1000
set hnsw.max_scan_tuples = 60000
set hnsw.scan_mem_multiplier = 8
as $$
declare
    found_space constant geosearch.space := geosearch.space_of(space);
    relation constant text := 'space_' || space;
    -- Whether the statistics are those of what passes the filters, all of which is looked at then.
    own constant boolean := method = 'weicom' and population = 'candidates'
        and num_nonnulls(near, archive, captured_from, captured_to, among) > 0;
    given halfvec[];
    given_means float8[];
    given_deviations float8[];
    at int[];  -- where the parts that count are among those given
    units halfvec[];
    signs float8[];
    w float8[];
    a float8[];
    b float8[];
    alive float8[];
    constant_tail float8 := 0;
    lowest float8 := -1;
    direction vector;
    step vector;
    length float8;
    spread float8;
    unit halfvec;
    code varbit;
    margin float8;
    reach float8;
    worst float8;
    least_z float8[];
    s record;
    e record;
    columns text;
    final text;
    gather text;
    walk text;
    far float8[];
    expected float8;
    met bigint;
    fetch_rows int;
    most_rows float8;
    exact_us float8;
    counted bigint;
    distances float8[];
    large boolean;
begin
    if k is null or k < 1 then
        raise invalid_parameter_value using
            message = format('k is %s', coalesce(k::text, 'null')), hint = 'Ask for at least 1 image.';
    elsif population is null or population not in ('space', 'candidates') then
        raise invalid_parameter_value using
            message = format('no population is named %L', population), hint = 'Use space or candidates.';
    elsif strategy is null or strategy not in ('auto', 'exact', 'fast') then
        raise invalid_parameter_value using
            message = format('no strategy is named %L', strategy), hint = 'Use auto, exact or fast.';
    elsif method is null or method not in ('weicom', 'mean') then
        raise invalid_parameter_value using
            message = format('no method is named %L', method), hint = 'Use weicom or mean.';
    elsif strategy = 'fast' and found_space.indexed_as is null then
        raise object_not_in_prerequisite_state using
            message = format('space %s has no approximate index', space),
            hint = 'Make it: geosearch space index ' || space || '. Or use auto or exact.';
    elsif late is null or late not in ('compute', 'refuse') then
        raise invalid_parameter_value using
            message = format('late is %s', coalesce(quote_literal(late), 'null')),
            hint = 'Say what to do where the moments of the space are late: compute or refuse.';
    end if;
    given := geosearch.compose_units(found_space, parts, weights);
    select array_agg(p.n order by p.n), array_agg(given[p.n] order by p.n), array_agg(sign(p.weight) order by p.n),
           array_agg(abs(p.weight) / p.total order by p.n)
    into at, units, signs, w
    from (select u.weight, u.n::int, sum(abs(u.weight)) over () as total
          from unnest(weights) with ordinality u (weight, n)) p
    where abs(p.weight) / p.total > 1e-15;
    select * into s from geosearch.search_source(found_space, near, radius_m, archive, captured_from, captured_to, among,
                                                 cardinality(units) || ' distances');
    select * into e from geosearch.search_estimate(found_space, s.numbers, s.archive_id, captured_from, captured_to,
                                                   s.inside_lo, s.inside_hi, s.border_lo, s.border_hi);

    select string_agg(format('array_agg(c.d%s)', n), ', ' order by n) into columns
    from generate_series(1, cardinality(units)) n;
    if method = 'weicom' and not own then
        select m.* into given_means, given_deviations, counted
        from geosearch.compose_moments(found_space, units, late = 'refuse') m;
        moments := case when counted is null then 'computed' else 'kept' end;
    elsif own then
        moments := 'computed';
        execute 'select array_agg(c.image_id), array[' || columns || '], count(*), array['
            || (select string_agg(format('1 - avg(c.d%s)', n), ', ' order by n) || '], array['
                    || string_agg(format('coalesce(stddev_samp(c.d%s), 0)', n), ', ' order by n) || ']'
                from generate_series(1, cardinality(units)) n) || ' from (' || s.source || ' offset 0) c'
            into ids, distances, touched, given_means, given_deviations
            using units, near, radius_m, s.archive_id, captured_from, captured_to, among, s.numbers, s.inside_lo,
                s.inside_hi, s.border_lo, s.border_hi;
    end if;

    -- z = a * distance + b; 0 where the similarity does not vary. For the mean, z is the similarity itself.
    for n in 1 .. cardinality(units) loop
        if method = 'mean' then
            a[n] := -signs[n];
            b[n] := signs[n];
        elsif given_deviations[n] >= 1e-6 then
            a[n] := -signs[n] / given_deviations[n];
            b[n] := signs[n] * (1 - given_means[n]) / given_deviations[n];
            alive := alive || w[n];
            lowest := least(lowest, case when signs[n] > 0 then 2 * a[n] + b[n] else b[n] end);
        else
            a[n] := 0;
            b[n] := 0;
            constant_tail := constant_tail + w[n] / 2;
        end if;
    end loop;
    alive := coalesce(alive, '{}');

    final := geosearch.compose_statement(signs, at, cardinality(given), method = 'weicom');
    chosen := 'exact';
    large := near is null and among is null and not own and e.total > 20000;
    if among is null and not own then
        -- The direction; what adds less than 1e-12 to it is left out.
        spread := (select sum(w[n] * abs(a[n])) from generate_series(1, cardinality(w)) n);
        for n in 1 .. cardinality(w) loop
            if w[n] * abs(a[n]) > 1e-12 * spread then
                step := l2_normalize(units[n]::vector)
                    * array_fill(-w[n] * a[n], array[found_space.dimension])::vector;
                direction := coalesce(direction + step, step);
            end if;
        end loop;
        length := vector_norm(direction);
    end if;
    if length > 1e-5 * spread then
        direction := l2_normalize(direction);
        unit := direction::halfvec;
        margin := l2_distance(direction, l2_normalize(unit::vector))
            + (2e-6 + 2e-8 * found_space.dimension) * (1 + spread / length);
        reach := (select sum(w[n] * (a[n] + b[n])) from generate_series(1, cardinality(w)) n);
        most_rows := greatest(1000, floor(0.03 * e.estimated));
        fetch_rows := greatest(1000, case when found_space.indexed_as = 'bit' then 30 else 4 end * least(k, 10000000) + 200);
        exact_us := e.scanned * (case when found_space.dimension > 3900 then 25
                                 else 0.3 + 0.0005 * found_space.dimension end);
        if found_space.indexed_as is not null and fetch_rows <= most_rows and e.estimated > 2 * fetch_rows and (
            strategy = 'fast' and e.estimated * 10 > e.total or strategy = 'auto' and exact_us > 40000
            and 1.3 * (3000 + 10 * (100 + fetch_rows * e.total / e.estimated)) < exact_us)
        then
            chosen := 'fast';
        elsif large then
            fetch_rows := 2 * least(k, 10000000) + 100;
            large := fetch_rows < 0.1 * e.estimated;
        end if;
    else
        large := false;
    end if;

    gather := 'select array_agg(c.image_id), array[' || columns || '], %s, count(*) from (select s.image_id, '
        || (select string_agg(format('0 + (s.embedding <=> $1[%s]) as d%s', n, n), ', ' order by n)
            from generate_series(1, cardinality(units)) n) || '%s from %s offset 0) c%s';
    if chosen = 'fast' or large then
        if found_space.indexed_as = 'bit' then
            code := geosearch.sign_code(unit, found_space.centre);
        end if;
        walk := case when found_space.indexed_as is null then
            format(gather, 'null::float8[]', '', format('geosearch.%I s tablesample system ($14) where true%s', relation,
                                                      s.condition), '')
            else format(gather, 'percentile_disc(array[$16, 0.5, 1]) within group (order by c.far)',
                ', 0 + (s.embedding <=> $13) as far', format('(select s.image_id, s.embedding from geosearch.%I s where true%s order by %s limit $14) s', relation,
                    s.condition, case found_space.indexed_as
                        when 'bit' then format('s.code <~> $15::bit(%s)', found_space.dimension)
                        else 's.embedding <=> $13' end), '') end;
        loop
            perform set_config('hnsw.ef_search', least(1000, fetch_rows)::text, true);
            execute walk into ids, distances, far, met
                using units, near, radius_m, s.archive_id, captured_from, captured_to, among, s.numbers, s.inside_lo,
                    s.inside_hi, s.border_lo, s.border_hi, unit,
                    case when found_space.indexed_as is not null then fetch_rows
                         else least(100, 100 * (3000 + 20.0 * k) / greatest(1, e.estimated)) end, code,
                    greatest(0.05, (fetch_rows - 900.0) / (2 * fetch_rows));
            touched := met;
            worst := 'infinity';
            least_z := array_fill('-infinity'::float8, array[cardinality(w)]);
            if met >= k then
                execute final into ids, tails, similarities, scored
                    using ids, w, a, b, distances, k, constant_tail, alive, lowest;
                -- How far along the direction a row may lie that is as good as the k-th best.
                if method = 'weicom' then
                    least_z := array(select least(37.5, geosearch.tail_inverse(tails[k] * (1 + 1e-9) / u.w)) - 1e-6
                                     from unnest(w) with ordinality u (w, n) order by u.n);
                end if;
                worst := case method
                    when 'weicom' then geosearch.least_combined(
                        tails[k] * (1 + 1e-9) - constant_tail, alive, lowest) - 1e-6
                    else 1 - tails[k] - 1e-9 end;
                worst := 1 - (worst - reach) / length + margin;
            end if;
            exit when chosen = 'exact';
            -- A walk passes rows by and meets them later: 900 and half of the others must lie beyond.
            exit when met >= fetch_rows and (far[1] > worst or found_space.indexed_as = 'bit');
            -- As many rows again as lie between the middle one and the last lie in as wide a band beyond.
            expected := 900 + 2.0 * met * 2 ^ least(10, greatest(-10,
                (worst - far[3]) / greatest(1e-9, far[3] - far[2])));
            if met < fetch_rows or fetch_rows >= most_rows or expected > 3 * most_rows then
                chosen := 'exact';
                exit;
            end if;
            fetch_rows := least(most_rows, greatest(2 * fetch_rows, 1.2 * expected));
        end loop;
    end if;
    if chosen = 'exact' and large then
        -- One product a row; of those that it lets through, the similarities, of which each has its own bound.
        execute format(gather, 'null::float8[]', '', format(
            'geosearch.%I s where true%s and (s.embedding <=> $13) <= $14', relation, s.condition),
            (select string_agg(format(' %1$s $15[%2$s] * c.d%2$s + $16[%2$s] >= $17[%2$s]',
                                      case n when 1 then 'where' else 'and' end, n), '' order by n)
             from generate_series(1, cardinality(units)) n))
            into ids, distances, far, met
            using units, near, radius_m, s.archive_id, captured_from, captured_to, among, s.numbers, s.inside_lo,
                s.inside_hi, s.border_lo, s.border_hi, unit, worst, a, b, least_z;
        touched := case when num_nonnulls(archive, captured_from, captured_to) = 0 then counted end;
    elsif chosen = 'exact' and not own then
        execute 'select array_agg(c.image_id), array[' || columns || '], count(*) from (' || s.source || ' offset 0) c'
            into ids, distances, touched
            using units, near, radius_m, s.archive_id, captured_from, captured_to, among, s.numbers, s.inside_lo,
                s.inside_hi, s.border_lo, s.border_hi;
    end if;
    if chosen = 'exact' then
        execute final into ids, tails, similarities, scored
            using ids, w, a, b, distances, k, constant_tail, alive, lowest;
    end if;
    if method = 'weicom' then
        for n in 1 .. cardinality(given) loop
            means[n] := given_means[array_position(at, n)];
            deviations[n] := given_deviations[array_position(at, n)];
        end loop;
    end if;
end $$;
comment on function geosearch.compose_best is
    'The answers of a composed question as arrays, best first, with the way they were found. Used by the composed '
    'searches.';

revoke all on function geosearch.compose_best from public;
grant execute on function geosearch.compose_best to geosearch_admin, geosearch_ingest, geosearch_read;
