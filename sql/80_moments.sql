-- Moments of a space: with the mean and the covariance of its vectors, brought to length 1, the mean and the deviation of
-- any query's similarities are known without looking at one of them. They are computed outside (geosearch space
-- moments, and the embedding run): a covariance needs a number of operations for each row that no trigger should do.
drop function if exists geosearch.moments_are_current;
drop function if exists geosearch.moments_state;
drop function if exists geosearch.similarity_moments;

create function geosearch.moments_are_current(space_id int)
returns boolean
language sql
stable
parallel safe
set search_path from current
as $$
    select coalesce((select m.changes = geosearch.change_count('vectors ' || m.space_id::text)
                     from geosearch.moments m where m.space_id = moments_are_current.space_id), false)
$$;
comment on function geosearch.moments_are_current is
    'Whether the moments of a space are there and no vector of it was added, changed or removed since.';

create function geosearch.moments_state(
    space text, out current boolean, out counted bigint, out changes_since bigint, out computed_at timestamptz)
language plpgsql
stable
parallel safe
set search_path from current
as $$
declare
    id_of_space int;
begin
    select s.id into id_of_space from geosearch.space s where s.name = moments_state.space;
    if not found then
        raise undefined_object using
            message = pg_catalog.format('no space is named %L', space), hint = 'List them: geosearch space list.';
    end if;
    current := false;
    select m.changes = c.changes, m.counted, c.changes - m.changes, m.computed_at
    into current, counted, changes_since, computed_at
    from geosearch.moments m, geosearch.change_count('vectors ' || m.space_id::text) c (changes)
    where m.space_id = id_of_space;
    current := coalesce(current, false);
end $$;
comment on function geosearch.moments_state is
    'How the moments of a space stand: whether they are current, of how many vectors they tell, how many statements '
    'changed vectors since, and when they were computed; null where they never were.';

-- With the axes r, q C q is the sum of (q·r)². One row is a population of deviation 0. The product with the mean is summed
-- in double precision, since its error would be that of every similarity; among those with the axes errors cancel.
create function geosearch.similarity_moments(space_id int, unit vector, out mean float8, out deviation float8)
language sql
stable
parallel safe
set search_path from current
as $$
    select (select sum(p.a::float8 * p.b::float8) from unnest(m.mean::real[], unit::real[]) as p (a, b)),
           (select sqrt(coalesce(sum((a.direction <#> unit) ^ 2), 0)) from geosearch.moments_axis a
            where a.space_id = similarity_moments.space_id)
    from geosearch.moments m where m.space_id = similarity_moments.space_id
$$;
comment on function geosearch.similarity_moments is
    'Mean and deviation (ddof 1) of the cosines of a vector of length 1 with all vectors of a space, from its moments.';

revoke all on function geosearch.moments_are_current, geosearch.moments_state, geosearch.similarity_moments from public;
grant execute on function geosearch.moments_are_current, geosearch.moments_state, geosearch.similarity_moments
    to geosearch_admin, geosearch_ingest, geosearch_read;
