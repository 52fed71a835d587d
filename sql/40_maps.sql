-- Views for map clients (QGIS, MapServer, ogr2ogr): a stable integer key first, one typed geometry, no vectors, nothing
-- that such clients cannot show (arrays and JSON arrive as text).
drop view if exists geosearch.image_map;
drop view if exists geosearch.footprint_map;

-- Every image that has a place, as one point: whatever the archive knows of its images, this layer shows them all.
-- A point on the footprint rather than its centroid, which may lie on the far side of the Earth from a footprint that
-- is cut at 180 degrees.
create view geosearch.image_map with (security_invoker = true) as
select i.id,
       a.name as archive,
       i.name,
       i.uri,
       i.captured_at,
       i.reach_m,
       i.footprint is not null as has_footprint,
       array_to_string(i.problems, '; ') as problems,
       i.properties::text as properties,
       coalesce(i.nadir::geometry, st_pointonsurface(i.footprint::geometry))::geometry(Point, 4326) as geom
from geosearch.image i
join geosearch.archive a on a.id = i.archive_id
where i.nadir is not null or i.footprint is not null;
comment on view geosearch.image_map is
    'Every image that has a place, as a point: its nadir, or a point on its footprint. For map clients.';
comment on column geosearch.image_map.id is 'Key of the image.';
comment on column geosearch.image_map.archive is 'Name of its archive.';
comment on column geosearch.image_map.name is 'Its name, unique in its archive.';
comment on column geosearch.image_map.uri is 'Path or address of the picture.';
comment on column geosearch.image_map.captured_at is 'When it was taken.';
comment on column geosearch.image_map.reach_m is 'How far from its place the shown ground may lie, in metres.';
comment on column geosearch.image_map.has_footprint is 'Whether footprint_map shows its ground.';
comment on column geosearch.image_map.problems is 'What is doubtful about it, separated by semicolons; empty if nothing.';
comment on column geosearch.image_map.properties is 'Further facts of the source, JSON.';
comment on column geosearch.image_map.geom is 'Nadir, or a point on the footprint.';

create view geosearch.footprint_map with (security_invoker = true) as
select i.id,
       a.name as archive,
       i.name,
       i.uri,
       i.captured_at,
       array_to_string(i.problems, '; ') as problems,
       i.properties::text as properties,
       i.footprint::geometry(MultiPolygon, 4326) as geom
from geosearch.image i
join geosearch.archive a on a.id = i.archive_id
where i.footprint is not null;
comment on view geosearch.footprint_map is 'Every image that has a footprint, as polygons. For map clients.';
comment on column geosearch.footprint_map.id is 'Key of the image.';
comment on column geosearch.footprint_map.archive is 'Name of its archive.';
comment on column geosearch.footprint_map.name is 'Its name, unique in its archive.';
comment on column geosearch.footprint_map.uri is 'Path or address of the picture.';
comment on column geosearch.footprint_map.captured_at is 'When it was taken.';
comment on column geosearch.footprint_map.problems is 'What is doubtful about it, separated by semicolons; empty if nothing.';
comment on column geosearch.footprint_map.properties is 'Further facts of the source, JSON.';
comment on column geosearch.footprint_map.geom is 'The ground that it shows, cut at 180 degrees where it crosses.';

revoke all on geosearch.image_map, geosearch.footprint_map from public;
grant select on geosearch.image_map, geosearch.footprint_map to geosearch_admin, geosearch_ingest, geosearch_read;
