-- The steps of a composed question (WeiCom, arXiv 2405.15587) that compose_best (83_compose_best.sql) stands on: its parts
-- checked and rounded, mean and deviation of their similarities, and the statement that takes the best of known ones.
drop function if exists geosearch.compose_statement;
drop function if exists geosearch.compose_moments;
drop function if exists geosearch.compose_units;

create function geosearch.compose_units(found_space geosearch.space, parts vector[], weights float8[])
returns halfvec[]
language plpgsql
stable
parallel restricted
set search_path from current
as $$
declare
    units halfvec[];
    part vector;
    length float8;
begin
    if parts is null or array_ndims(parts) is distinct from 1 or array_ndims(weights) is distinct from 1
       or cardinality(parts) <> cardinality(weights) then
        raise invalid_parameter_value using
            message = format('%s vectors and %s weights do not belong together', coalesce(cardinality(parts), 0),
                             coalesce(cardinality(weights), 0)),
            hint = 'Give lists of one length: array[v1, v2]::vector[], array[0.5, -0.5]; at least one part.';
    elsif cardinality(parts) > 30 then
        raise invalid_parameter_value using
            message = format('a question cannot have %s parts', cardinality(parts)), hint = 'Give at most 30.';
    elsif exists (select from unnest(weights) w where w is null or not (abs(w) <= 1e100)) or not exists (
        select from unnest(weights) w where w <> 0) then
        raise invalid_parameter_value using
            message = format('the weights are %s', weights),
            hint = 'Give numbers, at least one of them not 0; a negative one for what is not wanted.';
    end if;
    for n in 1 .. cardinality(parts) loop
        part := parts[array_lower(parts, 1) + n - 1];
        if part is null then
            raise null_value_not_allowed using
                message = format('vector %s of the question is null', n),
                hint = 'Give the vectors of images or texts.';
        elsif vector_dims(part) <> found_space.dimension then
            raise data_exception using
                message = format('space %s holds vectors of %s dimensions, vector %s of the question has %s',
                                 found_space.name, found_space.dimension, n, vector_dims(part)),
                hint = 'Make the question with the model of that space.';
        end if;
        length := vector_norm(part);
        if not (length > 0 and length < 'infinity') then
            raise data_exception using
                message = format('vector %s of the question is zero or too long and has no direction', n),
                hint = 'Give vectors that are not all zeros.';
        end if;
        -- Rounded as search_best does.
        units := units || case when length between 0.01 and 1000 then part::halfvec else l2_normalize(part)::halfvec end;
    end loop;
    return units;
end $$;
comment on function geosearch.compose_units is
    'Checks the parts of a composed question and returns them in half precision. Used by compose_best.';

-- Of the whole space. "counted" is null where the moments had to be taken from the rows.
create function geosearch.compose_moments(
    found_space geosearch.space, units halfvec[], refuse boolean, out means float8[], out deviations float8[], out counted bigint)
language plpgsql
stable
parallel restricted
set search_path from current
set max_parallel_workers_per_gather = 0
set jit = off
as $$
declare
    known bigint;
begin
    if geosearch.moments_are_current(found_space.id) then
        select m.counted into counted from geosearch.moments m where m.space_id = found_space.id;
        select array_agg(m.mean order by u.n), array_agg(coalesce(m.deviation, 0) order by u.n) into means, deviations
        from unnest(units) with ordinality u (unit, n)
        cross join lateral geosearch.similarity_moments(found_space.id, l2_normalize(u.unit::vector)) m;
        return;
    end if;
    select m.counted into known from geosearch.moments m where m.space_id = found_space.id;
    if refuse then
        raise object_not_in_prerequisite_state using
            message = format(case when known is null then 'the moments of space %s were never computed'
                                  else 'the moments of space %s are late: its vectors have changed' end, found_space.name),
            hint = format('Run: geosearch space moments %s. Or ask with late => ''compute''.', found_space.name);
    end if;
    raise notice using
        message = format(case when known is null then 'the moments of space %s were never computed'
                              else 'the moments of space %s are late: its vectors have changed' end
                         || '; all of them are looked through', found_space.name),
        hint = format('Once for all: geosearch space moments %s.', found_space.name);
    execute (select format('select array[%s], array[%s] from (select %s from geosearch.%I s offset 0) c',
            string_agg(format('1 - avg(c.d%s)', n), ', ' order by n),
            string_agg(format('coalesce(stddev_samp(c.d%s), 0)', n), ', ' order by n),
            string_agg(format('0 + (s.embedding <=> $1[%s]) as d%s', n, n), ', ' order by n),
            'space_' || found_space.name) from generate_series(1, cardinality(units)) n)
        into means, deviations using units;
end $$;
comment on function geosearch.compose_moments is
    'Mean and deviation of the cosines of each vector with all vectors of a space: from its moments where they are '
    'current, else from the rows, or an error. Used by compose_best.';

-- $1 ids, $2 weights, $3 and $4 a and b, $5 distances (a list for each part), $6 k, $7 what the parts add to every tail whose
-- similarity does not vary, $8 the weights of the others, $9 the least z that any row can have.
create function geosearch.compose_statement(signs float8[], at int[], given int, weicom boolean)
returns text
language sql
immutable
parallel safe
set search_path from current
as $$
    -- Tails are dear: a rough one, by the logistic curve, tells k good rows; their worst tail bounds the sum of z, and each
    -- z, of all others that can be among the best.
    select format(
        'with e as materialized (select e.*, %1$s from unnest($1, %2$s) e (image_id, %3$s)),'
        ' t as (select max(b.tail) * (1 + 1e-9) as worst from (select %4$s as tail from e order by %5$s limit $6) b),'
        ' l as materialized (select %6$s from t),'
        ' r as materialized (select e.*, %4$s as tail from e where %7$s)'
        ' select array_agg(b.image_id), array_agg(b.tail), array_agg(array[%8$s]), (select count(*) from r)'
        ' from (select * from r order by %9$s, r.image_id limit $6) b',
        q.z, q.lists, q.names,
        case when weicom then q.tail when q.n = 1 and signs[1] > 0 then 'e.d1' else format('1 - (%s)', q.sum) end,
        case when weicom and q.n > 1 then q.rough else format('(%s) desc', q.sum) end,
        case when weicom then 'geosearch.least_combined(t.worst - $7, $8, $9) - 1e-6 as c' || q.least
             else '1 - t.worst - 1e-9 as c' end,
        format('%s >= (select c from l)', q.sum) || case when weicom then q.above else '' end,
        (select string_agg(coalesce('1 - b.d' || array_position(at, n), 'null'), ', ' order by n)
         from generate_series(1, given) n),
        -- One part: as a search orders it, also where Q takes two distances for one.
        case when q.n > 1 then 'r.tail' when signs[1] > 0 then 'r.d1' else '-r.d1' end)
    from (select count(*) as n,
                 string_agg(format('$3[%1$s] * e.d%1$s + $4[%1$s] as z%1$s', n), ', ' order by n) as z,
                 string_agg(format('$5[%1$s:%1$s]', n), ', ' order by n) as lists,
                 string_agg(format('d%s', n), ', ' order by n) as names,
                 string_agg(format('$2[%1$s] * e.z%1$s', n), ' + ' order by n) as sum,
                 string_agg(format('$2[%1$s] * geosearch.tail(e.z%1$s)', n), ' + ' order by n) as tail,
                 string_agg(format('$2[%1$s] / (1 + exp(1.7 * greatest(-300, least(300, e.z%1$s))))', n), ' + ' order by n)
                     as rough,
                 string_agg(format(', least(37.5, geosearch.tail_inverse(t.worst / $2[%1$s])) - 1e-6 as c%1$s', n), ''
                            order by n) as least,  -- a tail of 0 is one of any z above 37.5
                 string_agg(format(' and e.z%1$s >= (select c%1$s from l)', n), '' order by n) as above
          from generate_series(1, cardinality(signs)) n) q
$$;
comment on function geosearch.compose_statement is
    'The statement that takes the best k of the candidates of a composed question whose similarities are known. Used by '
    'compose_best.';

revoke all on function geosearch.compose_units, geosearch.compose_moments, geosearch.compose_statement from public;
grant execute on function geosearch.compose_units, geosearch.compose_moments, geosearch.compose_statement
    to geosearch_admin, geosearch_ingest, geosearch_read;
