-- The answers as layers for map clients: as in 40_maps.sql a key first, one typed geometry, nothing that they cannot
-- show. An image without a place is there without a geometry; one that was removed since is not.
drop view if exists geosearch.latest_ranking;
drop view if exists geosearch.ranked_image;

create view geosearch.ranked_image with (security_invoker = true) as
select r.id,
       r.query_id,
       left(concat_ws(' + ', q.text, 'image ' || q."like", q.image_uri, case when q.image is not null then 'a picture' end),
            200) as query,
       r.rank,
       r.similarity,
       case when q.text is not null and num_nonnulls(q.image, q.image_uri, q."like") > 0 then q.lambda end as lambda,
       r.distance_m,
       r.image_id,
       a.name as archive,
       i.name,
       i.uri,
       i.captured_at,
       q.asked_by,
       q.asked_at,
       coalesce(i.nadir::geometry, st_pointonsurface(i.footprint::geometry))::geometry(Point, 4326) as geom
from geosearch.ranking r
join geosearch.query q on q.id = r.query_id
join geosearch.image i on i.id = r.image_id
join geosearch.archive a on a.id = i.archive_id;
comment on view geosearch.ranked_image is
    'The answers to saved questions, as points; to an asker its own. For map clients.';
comment on column geosearch.ranked_image.id is 'Key of the answer.';
comment on column geosearch.ranked_image.query_id is 'The question.';
comment on column geosearch.ranked_image.query is 'What was asked for, its first 200 characters.';
comment on column geosearch.ranked_image.rank is 'Place among its answers, from 1.';
comment on column geosearch.ranked_image.similarity is
    'Cosine of the question and the image; where text and picture both count, WeiCom''s score, from 0 to 1.';
comment on column geosearch.ranked_image.lambda is 'Weight of the text beside a picture; null where only one was given.';
comment on column geosearch.ranked_image.distance_m is 'From the place asked about to the image''s, in metres.';
comment on column geosearch.ranked_image.image_id is 'Key of the image.';
comment on column geosearch.ranked_image.archive is 'Name of its archive.';
comment on column geosearch.ranked_image.name is 'Its name, unique in its archive.';
comment on column geosearch.ranked_image.uri is 'Path or address of the picture.';
comment on column geosearch.ranked_image.captured_at is 'When it was taken.';
comment on column geosearch.ranked_image.asked_by is 'Who asked.';
comment on column geosearch.ranked_image.asked_at is 'When.';
comment on column geosearch.ranked_image.geom is 'Nadir, or a point on the footprint.';

create view geosearch.latest_ranking with (security_invoker = true) as
select *
from geosearch.ranked_image
where query_id = (select max(q.id) from geosearch.query q where q.asked_by = current_user and q.state = 'done');
comment on view geosearch.latest_ranking is
    'The answers to the last answered question of the current user: a map layer that shows the next answer when it is '
    'refreshed.';
comment on column geosearch.latest_ranking.id is 'Key of the answer.';
comment on column geosearch.latest_ranking.query_id is 'The question.';
comment on column geosearch.latest_ranking.query is 'What was asked for, its first 200 characters.';
comment on column geosearch.latest_ranking.rank is 'Place among its answers, from 1.';
comment on column geosearch.latest_ranking.similarity is
    'Cosine of the question and the image; where text and picture both count, WeiCom''s score, from 0 to 1.';
comment on column geosearch.latest_ranking.lambda is 'Weight of the text beside a picture; null where only one was given.';
comment on column geosearch.latest_ranking.distance_m is 'From the place asked about to the image''s, in metres.';
comment on column geosearch.latest_ranking.image_id is 'Key of the image.';
comment on column geosearch.latest_ranking.archive is 'Name of its archive.';
comment on column geosearch.latest_ranking.name is 'Its name, unique in its archive.';
comment on column geosearch.latest_ranking.uri is 'Path or address of the picture.';
comment on column geosearch.latest_ranking.captured_at is 'When it was taken.';
comment on column geosearch.latest_ranking.asked_by is 'Who asked.';
comment on column geosearch.latest_ranking.asked_at is 'When.';
comment on column geosearch.latest_ranking.geom is 'Nadir, or a point on the footprint.';

revoke all on geosearch.ranked_image, geosearch.latest_ranking from public;
grant select on geosearch.ranked_image, geosearch.latest_ranking
    to geosearch_admin, geosearch_ingest, geosearch_ask, geosearch_read;
