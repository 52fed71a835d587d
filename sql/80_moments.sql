-- Moments of a space: with the mean and the covariance of its vectors, brought to length 1, the mean and the deviation of
-- any query's similarities are known without looking at one of them. They are computed outside (geosearch space
-- moments, and the embedding run): a covariance needs a number of operations for each row that no trigger should do.
drop function if exists geosearch.moments_are_current;
drop function if exists geosearch.similarity_moments;

create function geosearch.moments_are_current(space_id int)
returns boolean
language sql
stable
parallel safe
set search_path from current
as $$
    select coalesce((select m.changes = geosearch.change_count('vectors ' || m.space_id)
                     from geosearch.moments m where m.space_id = moments_are_current.space_id), false)
$$;
comment on function geosearch.moments_are_current is
    'Whether the moments of a space are there and no vector of it was added, changed or removed since.';

-- With the axes r, q C q is the sum of (q·r)². One row is a population of deviation 0.
create function geosearch.similarity_moments(space_id int, unit vector, out mean float8, out deviation float8)
language sql
stable
parallel safe
set search_path from current
as $$
    select -(m.mean <#> unit),
           (select sqrt(coalesce(sum((a.direction <#> unit) ^ 2), 0)) from geosearch.moments_axis a
            where a.space_id = similarity_moments.space_id)
    from geosearch.moments m where m.space_id = similarity_moments.space_id
$$;
comment on function geosearch.similarity_moments is
    'Mean and deviation (ddof 1) of the cosines of a vector of length 1 with all vectors of a space, from its moments.';

revoke all on function geosearch.moments_are_current, geosearch.similarity_moments from public;
grant execute on function geosearch.moments_are_current, geosearch.similarity_moments
    to geosearch_admin, geosearch_ingest, geosearch_read;
