-- What each table and column is. Functions and views carry their comments in the files that make them.
comment on schema geosearch is 'Images of the Earth, their places and their embeddings; made by geosearch.';

comment on table geosearch.archive is 'Images catalogued together.';
comment on column geosearch.archive.id is 'Key.';
comment on column geosearch.archive.name is 'The name that commands and functions know it by.';
comment on column geosearch.archive.title is 'A title for people.';
comment on column geosearch.archive.licence is 'The licence of the images.';
comment on column geosearch.archive.attribution is 'Whom to credit.';
comment on column geosearch.archive.root is 'Folder or address that the images were catalogued from.';
comment on column geosearch.archive.properties is 'Anything else, a JSON object.';
comment on column geosearch.archive.created_at is 'When the archive was made.';

comment on table geosearch.image is
    'One photograph or tile. Its place is coalesce(footprint, nadir); an image without a place lies in no circle.';
comment on column geosearch.image.id is 'Key; never used again for another image.';
comment on column geosearch.image.archive_id is 'The archive that it belongs to.';
comment on column geosearch.image.name is 'Its name, unique in its archive.';
comment on column geosearch.image.uri is 'Path or address of the picture.';
comment on column geosearch.image.captured_at is 'When it was taken.';
comment on column geosearch.image.nadir is 'The point beneath the spacecraft.';
comment on column geosearch.image.footprint is 'The ground that it shows; edges are great circles.';
comment on column geosearch.image.reach_m is
    'How far from its place the shown ground may lie, in metres: 0 with a footprint, 2 500 km with a nadir only. '
    'A search takes an image whose distance is at most radius + reach.';
comment on column geosearch.image.properties is 'Further facts of the source, a JSON object.';
comment on column geosearch.image.content_sha256 is 'SHA-256 of the image file: changed pixels are embedded anew.';
comment on column geosearch.image.source_sha256 is 'SHA-256 of the catalogue row: a changed row is updated.';
comment on column geosearch.image.problems is 'What is doubtful about it: an impossible nadir, a date in the future.';
comment on column geosearch.image.added_at is 'When it was catalogued first.';
comment on column geosearch.image.updated_at is 'When its row last changed.';

comment on table geosearch.reject is 'What could not be catalogued or embedded, and why.';
comment on column geosearch.reject.id is 'Key.';
comment on column geosearch.reject.archive_id is 'The archive that it was meant for.';
comment on column geosearch.reject.stage is 'Where it failed: catalog or embed.';
comment on column geosearch.reject.source is 'The file that it came from.';
comment on column geosearch.reject.line is 'Line or row in that file, from 1.';
comment on column geosearch.reject.name is 'The name of the image, where known.';
comment on column geosearch.reject.reason is 'Why it was refused.';
comment on column geosearch.reject.payload is 'The refused row, to mend and try again.';
comment on column geosearch.reject.at is 'When.';

comment on table geosearch.model is 'An encoder, with all that decides its vectors: family, weights, preprocessing.';
comment on column geosearch.model.id is 'Key.';
comment on column geosearch.model.name is 'The name that commands know it by.';
comment on column geosearch.model.family is 'The program that runs it, such as open_clip.';
comment on column geosearch.model.revision is 'Version or tag of the weights.';
comment on column geosearch.model.weights_sha256 is 'SHA-256 of the weights.';
comment on column geosearch.model.dimension is 'Length of its vectors.';
comment on column geosearch.model.preprocessing is 'How pixels and text are prepared, a JSON object.';
comment on column geosearch.model.created_at is 'When it was recorded.';

comment on table geosearch.space is
    'A model, its preprocessing, a dimension and a metric. The vectors of space x lie in table space_x.';
comment on column geosearch.space.id is 'Key.';
comment on column geosearch.space.name is 'The name that functions know it by; its table is space_<name>.';
comment on column geosearch.space.model_id is 'The model that makes its vectors; null where they are made elsewhere.';
comment on column geosearch.space.dimension is 'Length of its vectors.';
comment on column geosearch.space.metric is 'How two vectors compare: cosine.';
comment on column geosearch.space.embeds is 'What a vector stands for: image.';
comment on column geosearch.space.indexed_as is 'What its approximate index holds: halfvec (the vectors) or bit (their sign codes); null where there is none.';
comment on column geosearch.space.extents is
    'The classes of extent (geosearch.cell) that its rows were ever of, bit by bit: 1 for class 0, 2 for class 1 …';
comment on column geosearch.space.centre is
    'The mean of its vectors of length 1, which sign codes are taken about; null until it is learned.';
comment on column geosearch.space.counted is
    'How many images it held when its cells were last counted (geosearch.count_cells); null if never.';
comment on column geosearch.space.layout_version is 'Version of the layout of its table, for migrations.';
comment on column geosearch.space.active is 'Whether it is offered where no space is named.';
comment on column geosearch.space.created_at is 'When it was made.';

comment on table geosearch.cell_count is
    'How many images a space has in each cell, as last counted (geosearch.count_cells): what searches estimate from.';
comment on column geosearch.cell_count.space_id is 'The space.';
comment on column geosearch.cell_count.cell is 'The cell, with its class of extent (geosearch.cell).';
comment on column geosearch.cell_count.images is 'How many.';

comment on table geosearch.embedded_place is
    'The places that vectors were made with, in spaces whose model reads places beside pixels. Where geosearch.encoded_place '
    'is another now, the next embedding run makes the vector anew.';
comment on column geosearch.embedded_place.image_id is 'The image.';
comment on column geosearch.embedded_place.space_id is 'The space.';
comment on column geosearch.embedded_place.lat is 'Latitude of its geosearch.encoded_place then, in degrees; null: none was known.';
comment on column geosearch.embedded_place.lon is 'Longitude of it, in degrees.';

comment on sequence geosearch.version_seq is 'The versions of vectors.';

comment on table geosearch.query is
    'Saved questions: who asked what, and what became of it. Who may ask inserts the columns from text to strategy, '
    'sees and deletes its own rows; a worker writes the rest.';
comment on column geosearch.query.id is 'Key; questions are answered in its order.';
comment on column geosearch.query.asked_by is 'The role that asked; set by the database.';
comment on column geosearch.query.asked_at is 'When.';
comment on column geosearch.query.asked_in is 'The transaction that asked, by which wait() knows its own.';
comment on column geosearch.query.text is 'What to look for, in words.';
comment on column geosearch.query.image is 'A picture to look for: the bytes of its file, at most 20 MiB.';
comment on column geosearch.query.image_uri is
    'A picture to look for: a file in the folder of an archive, or an https address that the worker may fetch.';
comment on column geosearch.query."like" is 'A picture to look for: the id of a catalogued image.';
comment on column geosearch.query.near is
    'Only images that may show something near this place. A point is also the nadir of the picture, for a model that reads nadirs.';
comment on column geosearch.query.radius_m is 'How near, in metres; used with near only.';
comment on column geosearch.query.k is 'How many answers at most.';
comment on column geosearch.query.lambda is
    'With text and picture: the weight of the text, 0 to 1; null takes the default of the space''s model, and is that '
    'weight once the question is answered.';
comment on column geosearch.query.archive is 'Only images of this archive.';
comment on column geosearch.query.captured_from is 'Only images taken then or later.';
comment on column geosearch.query.captured_to is 'Only images taken before then.';
comment on column geosearch.query.among is 'Only these images.';
comment on column geosearch.query.space is 'The space to search in; null takes the only active one that can answer.';
comment on column geosearch.query.strategy is 'The strategy of the search.';
comment on column geosearch.query.state is 'waiting, working, done or failed.';
comment on column geosearch.query.attempts is 'How often a worker took it up.';
comment on column geosearch.query.killed is 'How many of these attempts ended without a word, their worker being gone.';
comment on column geosearch.query.worker is 'Who took it up last: machine and process.';
comment on column geosearch.query.started_at is 'When it was taken up last.';
comment on column geosearch.query.answered_at is 'When it was answered, or failed.';
comment on column geosearch.query.reason is 'Why it failed.';
comment on column geosearch.query.answers is 'How many images were found.';
comment on column geosearch.query.searched_space is 'The space that was searched.';
comment on column geosearch.query.model is 'The model that made its vector; null where a stored one was taken.';

comment on table geosearch.ranking is 'The answers to saved questions, written by workers.';
comment on column geosearch.ranking.id is 'Key.';
comment on column geosearch.ranking.query_id is 'The question.';
comment on column geosearch.ranking.rank is 'Place among its answers, from 1.';
comment on column geosearch.ranking.image_id is 'The image; it may have been removed since.';
comment on column geosearch.ranking.similarity is
    'Cosine of the question and the image; where text and picture both count, WeiCom''s score, from 0 to 1.';
comment on column geosearch.ranking.distance_m is 'From near to the image''s place; null without near.';

comment on table geosearch.location_weight is
    'The weights of location encoders, one row a unit, which geosearch.encode_place multiplies with. Nets, layers and '
    'units are counted from 0.';
comment on column geosearch.location_weight.model_id is 'The encoder.';
comment on column geosearch.location_weight.net is 'Which of its nets; their outputs are added.';
comment on column geosearch.location_weight.layer is
    'Layer of the net, from the place on. With Fourier features, layer 0 is the matrix of frequencies.';
comment on column geosearch.location_weight.unit is 'Unit of the layer.';
comment on column geosearch.location_weight.bias is 'What is added to its sum.';
comment on column geosearch.location_weight.weights is 'One weight for each output of the layer before.';

comment on table geosearch.bank is
    'Banks of RANGE: places with keys and values, in the tables bank_<name> and bank_<name>_values.';
comment on column geosearch.bank.id is 'Key.';
comment on column geosearch.bank.name is 'The name that functions and commands know it by.';
comment on column geosearch.bank.encoder is 'The location encoder that asks it, by its name in geosearch.model.';
comment on column geosearch.bank.key_model is 'The model that made the keys; null where they were made elsewhere.';
comment on column geosearch.bank.value_model is 'The model that made the values; null where they were made elsewhere.';
comment on column geosearch.bank.key_space_id is 'The space that the keys were taken from; null if from none, or it is gone.';
comment on column geosearch.bank.value_space_id is
    'The space that the values were taken from; null if from none, or it is gone.';
comment on column geosearch.bank.key_dimension is 'Length of the keys and of what the encoder makes.';
comment on column geosearch.bank.value_dimension is 'Length of the values.';
comment on column geosearch.bank.keys_normalised is 'Whether keys were brought to length 1.';
comment on column geosearch.bank.values_normalised is 'Whether values were brought to length 1.';
comment on column geosearch.bank.places is 'How many places it has.';
comment on column geosearch.bank.source is 'Where it comes from, for people.';
comment on column geosearch.bank.properties is 'How it was built, a JSON object.';
comment on column geosearch.bank.built_at is 'When it was finished; null until then.';
comment on column geosearch.bank.stored_at is 'When range_<name>_stored was last written as a whole; null if never.';
comment on column geosearch.bank.stored_changes is
    'The count of changes of images (geosearch.change_count) that it was written at.';
comment on column geosearch.bank.stored_with is 'The settings that it was written with, a JSON object.';

comment on table geosearch.change is
    'How often something changed: the sum of the rows of a subject (geosearch.change_count). Rows are only added.';
comment on column geosearch.change.subject is 
    'What changed: image, the set of images and their places; vectors <id>, the vectors of the space of this id.';
comment on column geosearch.change.changes is 'How many changes this row stands for.';

comment on table geosearch.installed_sql is 'The files of functions and views that this database holds.';
comment on column geosearch.installed_sql.name is 'File name.';
comment on column geosearch.installed_sql.sha256 is 'SHA-256 of the file and the search_path that it is pinned to.';
comment on column geosearch.installed_sql.release is 'The geosearch release that installed it.';
comment on column geosearch.installed_sql.installed_at is 'When.';

comment on table geosearch.alembic_version is 'The revision of the tables.';
comment on column geosearch.alembic_version.version_num is 'Name of the last migration that ran.';

comment on table geosearch.moments is
    'Count and mean of the vectors of a space, each brought to length 1, as of so many changes.';
comment on column geosearch.moments.space_id is 'The space.';
comment on column geosearch.moments.counted is 'How many vectors.';
comment on column geosearch.moments.mean is 'Their mean, in single precision, for queries.';
comment on column geosearch.moments.changes is
    'geosearch.change_count of the space''s vectors that this tells of; late where that is another now.';
comment on column geosearch.moments.edition is 'Another number whenever they were computed from the beginning.';
comment on column geosearch.moments.computed_at is 'When they were last computed or brought up to date.';

comment on table geosearch.moments_row is 'The moments of a space in double precision: one row for each dimension.';
comment on column geosearch.moments_row.space_id is 'The space.';
comment on column geosearch.moments_row.dimension is 'The dimension, from 1.';
comment on column geosearch.moments_row.mean is 'Mean of the vectors in this dimension.';
comment on column geosearch.moments_row.scatter is
    'Sums of the products of deviations from the mean, of this dimension with each; over count - 1: the covariance.';

comment on table geosearch.moments_axis is
    'Principal axes of a space''s vectors: the variance of a query''s similarities is the sum of its squared products.';
comment on column geosearch.moments_axis.space_id is 'The space.';
comment on column geosearch.moments_axis.axis is 'From 1, the longest first.';
comment on column geosearch.moments_axis.direction is
    'An eigenvector of the covariance times the root of its eigenvalue; single precision.';
