-- The upper tail of the standard normal distribution, Q = 1 - Phi, and what WeiCom's bound needs of it
-- (83_compose_best.sql). PostgreSQL has erf from 16 on only; exp and a polynomial give one answer on every version.
drop function if exists geosearch.least_combined;
drop function if exists geosearch.tail_inverse;
drop function if exists geosearch.tail;

-- With x = |z| / sqrt(2) and v = 4 / (2 + x) - 1, from -1 to 1, ln(4 Q(|z|) exp(x²) / (v + 1)) is a polynomial of degree
-- 20 in v: Chebyshev's, fitted to erfc at 400 nodes, in powers of v (tests/sql/test_compose_normal.py makes it anew).
-- Relative error below 4e-13. PL/pgSQL, so that the argument is evaluated once.
create function geosearch.tail(z float8)
returns float8
language plpgsql
immutable
strict
parallel safe
set search_path from current
as $$
declare
    v float8;
begin
    -- Beyond 37.5 Q would be a number that exp refuses as an underflow.
    if abs(z) > 37.5 then
        return case when z = 'NaN' then z when z > 0 then 0 else 1 end;
    elsif abs(z) < 1e-100 then
        return 0.5;  -- its square would be another
    end if;
    v := 4 / (2 + abs(z) * 0.70710678118654752) - 1;
    v := (v + 1) / 4 * exp(-z * z / 2 + ((((((((((((((((((((
        0.00000016394466 * v + 0.00000023457561) * v - 0.00000172233261) * v - 0.00000095734622) * v
        + 0.00000896472095) * v - 0.00000216346488) * v - 0.00003043059466) * v + 0.00003342188534) * v
        + 0.00007150013737) * v - 0.00017508701699) * v - 0.00009376194288) * v + 0.00067391099484) * v
        - 0.00014624219643) * v - 0.00234585412557) * v + 0.00175893307735) * v + 0.00882494267917) * v
        - 0.00987268934075) * v - 0.04689561041907) * v + 0.04734330684138) * v + 0.67264322398019) * v
        - 0.67179408405669));
    return case when z < 0 then 1 - v else v end;
end $$;
comment on function geosearch.tail is
    'Q(z): how likely a standard normal variable exceeds z. Relative error below 1e-10; 0 from 37.5 on; NaN for NaN.';

-- Newton's method for ln Q, from formula 26.2.23 of Abramowitz and Stegun, which errs by 4.5e-4.
create function geosearch.tail_inverse(p float8)
returns float8
language plpgsql
immutable
strict
parallel safe
set search_path from current
as $$
declare
    r float8;
    z float8;
    q float8;
begin
    if p = 'NaN' or p <= 0 then
        return case when p = 'NaN' then p else 'infinity' end;
    elsif p >= 1 then
        return '-infinity';
    elsif p > 0.5 then
        return -geosearch.tail_inverse(1 - p);
    elsif p < 5e-308 then
        return 37.5;
    end if;
    r := sqrt(-2 * ln(p));
    z := r - (2.515517 + r * (0.802853 + r * 0.010328)) / (1 + r * (1.432788 + r * (0.189269 + r * 0.001308)));
    for step in 1 .. 3 loop
        z := least(37.5, greatest(0, z));
        q := geosearch.tail(z);
        z := z + (ln(q) - ln(p)) * q * exp(z * z / 2) * 2.5066282746310005;
    end loop;
    return least(37.5, greatest(0, z));
end $$;
comment on function geosearch.tail_inverse is
    'z with geosearch.tail(z) = p; infinity at 0 and below, -infinity at 1 and above, NaN for NaN; at most 37.5 otherwise.';

-- geosearch/compose/bound.py says why: at the least sum some of the z lie at `lowest`, the others at a common distance
-- from 0, all above it or all but one. Every such point is looked at; with many parts a tangent is laid instead.
create function geosearch.least_combined(worst float8, weights float8[], lowest float8)
returns float8
language plpgsql
immutable
strict
parallel safe
set search_path from current
as $$
declare
    found_least float8 := 'infinity';
    positive float8[];
    total float8 := 0;
    parts int;
    left_over float8;
    free float8;
    q float8;
    a float8;
    low float8;
    high float8;
begin
    select array_agg(w), sum(w) into positive, total from unnest(weights) w where w > 0;
    parts := coalesce(cardinality(positive), 0);
    worst := worst * (1 + 1e-9) / total;  -- what is small is lost in a sum
    if parts = 0 or worst >= 1 then
        return '-infinity';
    end if;
    lowest := least(lowest, -1);
    if parts = 1 or worst <= (select min(w) from unnest(positive) w) / total / 2 then
        return total * least(37.5, geosearch.tail_inverse(worst));
    end if;
    worst := worst * total;
    if parts > 4 then
        low := 0;
        high := 37.5;
        for step in 1 .. 60 loop  -- where the tangent of Q through (lowest, Q(lowest)) touches it
            a := (low + high) / 2;
            if geosearch.tail(a) + exp(-a * a / 2) * 0.3989422804014327 * (a - lowest) > geosearch.tail(lowest) then
                low := a;
            else
                high := a;
            end if;
        end loop;
        worst := worst / total;
        if worst <= geosearch.tail(high) then
            return total * least(37.5, geosearch.tail_inverse(worst));
        end if;
        return total * (high - (worst - geosearch.tail(high)) / (exp(-high * high / 2) * 0.3989422804014327));
    end if;

    for bottom in 0 .. (1 << parts) - 1 loop
        left_over := worst;
        free := 0;
        for n in 1 .. parts loop
            if bottom & (1 << n - 1) <> 0 then
                left_over := left_over - positive[n] * geosearch.tail(lowest);
            else
                free := free + positive[n];
            end if;
        end loop;
        continue when left_over < 0 or (free > 0 and left_over >= free);
        if free = 0 then
            found_least := least(found_least, lowest * total);
            continue;
        end if;
        a := least(37.5, geosearch.tail_inverse(left_over / free));
        if a > lowest - 1e-6 then
            found_least := least(found_least, free * a + lowest * (total - free));
        end if;
        for n in 1 .. parts loop
            continue when bottom & (1 << n - 1) <> 0 or free - positive[n] <= 1e-12 or free = 2 * positive[n];
            q := (left_over - positive[n]) / (free - 2 * positive[n]);
            continue when q < -1e-12 or q > 0.5 + 1e-12;
            a := least(37.5, geosearch.tail_inverse(least(q, 0.5)));
            continue when a > 1e-6 - lowest;
            found_least := least(found_least, (free - 2 * positive[n]) * a + lowest * (total - free));
        end loop;
    end loop;
    return found_least;
end $$;
comment on function geosearch.least_combined is
    'c such that every row whose tail, the sum of weights times Q(z), is at most `worst` has a sum of weights times z of at '
    'least c, where no z is below `lowest`. Used by the composed searches.';

revoke all on function geosearch.tail, geosearch.tail_inverse, geosearch.least_combined from public;
grant execute on function geosearch.tail, geosearch.tail_inverse, geosearch.least_combined
    to geosearch_admin, geosearch_ingest, geosearch_read;
