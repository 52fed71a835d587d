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
    elsif p < 4.6e-308 then
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

-- geosearch/compose/bound.py says why: no z of such a row lies below Q^-1(worst / least weight); from the least z a line is
-- laid that touches Q, which is convex above 0, and by Jensen's inequality line and curve bound the sum.
create function geosearch.least_combined(worst float8, weights float8[], lowest float8)
returns float8
language plpgsql
immutable
strict
parallel safe
set search_path from current
as $$
declare
    total float8;
    least_weight float8;
    middle float8;
    low float8 := 0;
    high float8 := 37.5;
begin
    select sum(w), min(w) into total, least_weight from unnest(weights) w where w > 0;
    worst := worst * (1 + 1e-9);  -- what is small is lost in a sum
    if total is null or worst >= total then
        return '-infinity';
    end if;
    lowest := greatest(lowest, geosearch.tail_inverse(worst / least_weight));
    worst := worst / total;
    if lowest < 0 then
        if lowest = '-infinity' then
            return lowest;
        end if;
        for step in 1 .. 60 loop  -- where the tangent of Q through (lowest, Q(lowest)) touches it
            middle := (low + high) / 2;
            if geosearch.tail(middle) + exp(-middle * middle / 2) * 0.3989422804014327 * (middle - lowest)
               > geosearch.tail(lowest) then
                low := middle;
            else
                high := middle;
            end if;
        end loop;
        if worst > geosearch.tail(high) then
            return total * (high - (worst - geosearch.tail(high)) / (exp(-high * high / 2) * 0.3989422804014327));
        end if;
    end if;
    return total * least(37.5, geosearch.tail_inverse(worst));
end $$;
comment on function geosearch.least_combined is
    'c such that every row whose tail, the sum of weights times Q(z), is at most `worst` has a sum of weights times z of at '
    'least c, where no z is below `lowest`. Used by the composed searches.';

revoke all on function geosearch.tail, geosearch.tail_inverse, geosearch.least_combined from public;
grant execute on function geosearch.tail, geosearch.tail_inverse, geosearch.least_combined
    to geosearch_admin, geosearch_ingest, geosearch_read;
