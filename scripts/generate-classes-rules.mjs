/**
 * The reviewed rules behind src/sql/data/: which of PostgreSQL's own functions, types and relations
 * belong to which class, and why. The generator applies them to pg_proc of every supported version
 * and fails where a volatile function is not named here, so that nobody forgets a new one.
 *
 * total: for every non-null value of its argument types it returns without an error (memory limits
 * aside), has no side effect, reads nothing but its arguments, the session's settings and the
 * clock, and its result is bounded linearly by its arguments. A value that exists and makes it fail
 * (the smallest int4 for abs, infinity for date - date, a numeric of 131,072 digits for round)
 * makes it partial, however unlikely. `proleakproof` is PostgreSQL's own word for the same thing.
 */

const words = (text) => text.split(/\s+/).filter((word) => word !== '')

/** Functions of pg_catalog that are total and not marked leakproof: `name` or `name(types)`. */
export const totalFunctions = new Set(
  words(`
  abs(float4) abs(float8) abs(numeric) float4abs float8abs numeric_abs
  float4um float8um numeric_uminus float4up float8up numeric_uplus int2up int4up int8up
  float4larger float4smaller float8larger float8smaller int2larger int2smaller int4larger
  int4smaller int8larger int8smaller numeric_larger numeric_smaller oidlarger oidsmaller
  date_larger date_smaller time_larger time_smaller timetz_larger timetz_smaller interval_larger
  interval_smaller timestamp_larger timestamp_smaller timestamptz_larger timestamptz_smaller
  cashlarger cashsmaller tidlarger tidsmaller xid8_larger xid8_smaller pg_lsn_larger
  pg_lsn_smaller network_larger network_smaller enum_larger enum_smaller
  int2and int2or int2xor int2not int4and int4or int4xor int4not int8and int8or int8xor int8not
  int2shl int2shr int4shl int4shr int8shl int8shr
  numeric_eq numeric_ne numeric_lt numeric_le numeric_gt numeric_ge numeric_cmp hash_numeric
  sign(float8) sign(numeric) scale(numeric) min_scale(numeric) trim_scale(numeric) trunc(numeric)
  trunc(numeric,int4) trunc(float8) floor(float8) ceil(float8) ceiling(float8) round(float8)
  dround dtrunc pi bool(int4) booland_statefunc boolor_statefunc
  enum_eq enum_ne enum_lt enum_le enum_gt enum_ge enum_cmp
  array_eq array_ne array_lt array_le array_gt array_ge btarraycmp array_larger array_smaller
  record_eq record_ne record_lt record_le record_gt record_ge btrecordcmp record_larger
  record_smaller record_image_eq record_image_ne record_image_lt record_image_le record_image_gt
  record_image_ge btrecordimagecmp
  jsonb_eq jsonb_ne jsonb_lt jsonb_le jsonb_gt jsonb_ge jsonb_cmp jsonb_contains jsonb_contained
  jsonb_exists jsonb_exists_any jsonb_exists_all jsonb_object_field jsonb_object_field_text
  jsonb_array_element jsonb_array_element_text jsonb_extract_path jsonb_extract_path_text
  jsonb_typeof jsonb_strip_nulls json_typeof
  upper(text) lower(text) initcap(text) reverse(text) reverse(bytea)
  length(text) length(bpchar) length(bytea) length(bit) length(tsvector) length(lseg) length(path)
  textlen bpcharlen lengthb char_length character_length octet_length bit_length bit_count
  left(text,int4) right(text,int4) btrim ltrim rtrim translate(text,text,text)
  textcat byteacat strpos position(text,text) position(bytea,bytea) substr(text,int4)
  substring(text,int4) substr(bytea,int4) substring(bytea,int4)
  quote_ident(text) quote_literal(text) quote_nullable(text) to_hex to_oct to_bin
  string_to_array text(bool) text(bpchar) text(char) text(inet) text(xml) text(name) bpchar(char)
  bpchar(name) char(text)
  bitnot bitcat md5 sha224 sha256 sha384 sha512 hashtext hashint4 hashint8
  cardinality array_ndims array_dims array_length array_lower array_upper
  arraycontains arraycontained arrayoverlap num_nulls num_nonnulls
  host(inet) family(inet) masklen(inet) abbrev(inet) abbrev(cidr) netmask(inet) network(inet)
  broadcast(inet) hostmask(inet) inet_same_family network_sub network_subeq network_sup
  network_supeq network_overlap inetnot cidr(inet) trunc(macaddr) trunc(macaddr8) macaddr_not
  macaddr8_not macaddr8_set7bit
  isfinite date(timestamp) time(timestamp) time(timetz)
  date_eq_timestamp date_ne_timestamp date_lt_timestamp date_le_timestamp date_gt_timestamp
  date_ge_timestamp date_cmp_timestamp timestamp_eq_date timestamp_ne_date timestamp_lt_date
  timestamp_le_date timestamp_gt_date timestamp_ge_date timestamp_cmp_date
  date_eq_timestamptz date_ne_timestamptz date_lt_timestamptz date_le_timestamptz
  date_gt_timestamptz date_ge_timestamptz date_cmp_timestamptz timestamptz_eq_date
  timestamptz_ne_date timestamptz_lt_date timestamptz_le_date timestamptz_gt_date
  timestamptz_ge_date timestamptz_cmp_date timestamp_eq_timestamptz timestamp_ne_timestamptz
  timestamp_lt_timestamptz timestamp_le_timestamptz timestamp_gt_timestamptz
  timestamp_ge_timestamptz timestamp_cmp_timestamptz timestamptz_eq_timestamp
  timestamptz_ne_timestamp timestamptz_lt_timestamp timestamptz_le_timestamp
  timestamptz_gt_timestamp timestamptz_ge_timestamp timestamptz_cmp_timestamp
  tsvector_eq tsvector_ne tsvector_lt tsvector_le tsvector_gt tsvector_ge tsvector_cmp strip
  tsquery_eq tsquery_ne tsquery_lt tsquery_le tsquery_gt tsquery_ge tsquery_cmp
  isempty lower_inc upper_inc lower_inf upper_inf lower(anyrange) upper(anyrange)
  lower(anymultirange) upper(anymultirange)
  now transaction_timestamp statement_timestamp current_database current_schema current_user
  session_user pg_backend_pid version pg_typeof pg_column_size inet_client_addr inet_client_port
  inet_server_addr inet_server_port pg_client_encoding getdatabaseencoding pg_my_temp_schema
  pg_collation_for
  point(float8,float8) isclosed isopen npoints pclose popen
  `),
)

/**
 * Marked leakproof, yet not total: a circle is compared by its area, which overflows (22003). And
 * json's -> and #> are not listed above, unlike jsonb's: json keeps escapes as they were written, and
 * a lone surrogate or \u0000 fails when it is read (22P05).
 */
export const leakproofButPartial = new Set(
  words('circle_eq circle_ne circle_lt circle_le circle_gt circle_ge'),
)

/** Total, but what they print is the output of their arguments' types: `outputForm`. */
export const outputFunctions = new Map([
  ...words('concat concat_ws array_to_string anytextcat textanycat').map((name) => [name, 'T']),
  ['quote_literal(anyelement)', 'T'],
  ['quote_nullable(anyelement)', 'T'],
  ...words(`row_to_json array_to_json to_json json_build_array json_agg json_agg_strict`).map(
    (name) => [name, 'J'],
  ),
  ...words(`to_jsonb jsonb_build_array jsonb_agg jsonb_agg_strict`).map((name) => [name, 'B']),
  ['json_build_object', 'J'],
  ['jsonb_build_object', 'B'],
])

/**
 * Partial by themselves, total where the arguments at these positions (a is the first) are
 * literals of at most 1,000 bytes: what makes them fail then does not depend on data. `Z` is every
 * odd argument, from the first (the keys of json_build_object). A regular expression may fail by its subject, and so may
 * LIKE (a trailing backslash is found only by what matches so far): they are not here. Neither is
 * to_char of numbers, whose V multiplies.
 * Nor is date_part of a date, which goes through timestamp and overflows, nor a field of a timestamp:
 * `timezone` fails but for infinity. A precision out of range does the same in timestamp(t, 7).
 */
export const constantArguments = new Map(
  Object.entries({
    'date_part(text,time)': 'a',
    'date_part(text,timetz)': 'a',
    'date_part(text,timestamptz)': 'a',
    'date_part(text,interval)': 'a',
    'extract(text,date)': 'a',
    'extract(text,time)': 'a',
    'extract(text,timetz)': 'a',
    'extract(text,timestamptz)': 'a',
    'extract(text,interval)': 'a',
    'substr(text,int4,int4)': 'c',
    'substring(text,int4,int4)': 'c',
    'substr(bytea,int4,int4)': 'c',
    'substring(bytea,int4,int4)': 'c',
    'substring(bit,int4,int4)': 'c',
    'lpad(text,int4)': 'b',
    'rpad(text,int4)': 'b',
    'lpad(text,int4,text)': 'b',
    'rpad(text,int4,text)': 'b',
    'overlay(text,text,int4)': 'c',
    'overlay(text,text,int4,int4)': 'cd',
    'replace(text,text,text)': 'c',
    'split_part(text,text,int4)': 'c',
    'time(time,int4)': 'b',
    'timetz(timetz,int4)': 'b',
    'encode(bytea,text)': 'b',
    'to_char(timestamp,text)': 'b',
    'to_char(timestamptz,text)': 'b',
    'ntile(int4)': 'a',
    'nth_value(anyelement,int4)': 'b',
    json_build_object: 'Z',
    jsonb_build_object: 'Z',
  }),
)

/**
 * Aggregates and window functions. sum of int2 and int4 is a bigint that 2^31 rows would have to
 * fill, sum of int8 a numeric. sum(numeric), of floats, intervals and money can overflow: partial.
 * Comparing and collecting is total; array_agg of arrays fails on unequal dimensions.
 */
export const totalAggregates = new Set(
  words(`
  any_value array_agg(anynonarray) avg(int2) avg(int4) avg(int8)
  bit_and(int2) bit_and(int4) bit_and(int8) bit_or(int2) bit_or(int4) bit_or(int8)
  bit_xor(int2) bit_xor(int4) bit_xor(int8) bool_and bool_or every count min max mode
  string_agg sum(int2) sum(int4) sum(int8)
  stddev(int2) stddev(int4) stddev(int8) stddev_pop(int2) stddev_pop(int4) stddev_pop(int8)
  stddev_samp(int2) stddev_samp(int4) stddev_samp(int8) var_pop(int2) var_pop(int4) var_pop(int8)
  var_samp(int2) var_samp(int4) var_samp(int8) variance(int2) variance(int4) variance(int8)
  row_number rank dense_rank percent_rank cume_dist lag lead first_value last_value
  `),
)

/** Run SQL that is given as text, or read a relation whose name is given as text. */
export const readsByText = [
  /^(query|table|cursor|schema|database)_to_xml/,
  /^ts_stat$/,
  /^ts_rewrite\(tsquery,text\)/,
  /^currtid2?$/,
  /^dblink(?!_(disconnect|get_connections|get_pkey|current_query|build_sql|fdw))/,
  /^crosstab/,
  /^connectby$/,
  /^xpath_table$/,
  /^(pg_)?prewarm$/,
]

/** Read or write files of the server, or large objects, which are files inside the database. */
export const files = [
  /^pg_(read_|ls_|file_)/,
  /^pg_(stat_file|current_logfile|logdir_ls)$/,
  /^pg_(show_all_file_settings|hba_file_rules|ident_file_mappings)$/,
  /^lo_|^loread$|^lowrite$/,
]

/** Administrate the server, or show what other sessions do. */
export const admin = [
  /^binary_upgrade_/,
  /^pg_(cancel|terminate)_backend$/,
  /^pg_log_backend_memory_contexts$/,
  /^pg_(reload_conf|rotate_logfile|rotate_logfile_old|promote|nextoid|stop_making_pinned_objects)$/,
  /^pg_(switch_wal|create_restore_point|export_snapshot|import_system_collations)$/,
  /^pg_(backup_start|backup_stop|start_backup|stop_backup|log_standby_snapshot)$/,
  /^pg_wal_replay_(pause|resume)$/,
  /^pg_(create|drop|copy)_.*replication_slot$/,
  /^pg_replication_(slot_advance|origin_)/,
  /^pg_show_replication_origin_status$/,
  /^pg_logical_/,
  /^pg_sync_replication_slots$/,
  /^pg_stat_reset/,
  /^pg_(clear|restore)_(relation|attribute)_stats$/,
  /^pg_extension_config_dump$/,
  /^(brin_(de)?summarize_|brin_summarize_new_values|gin_clean_pending_list)/,
  /^pg_get_(backend_memory_contexts|shmem_allocations|shmem_allocations_numa|aios|loaded_modules)$/,
  /^pg_(available_wal_summaries|wal_summary_contents|get_wal_summarizer_state)$/,
  /^pg_stat_get_(activity|backend_activity|wal_senders|wal_receiver|subscription)$/,
  /^pg_(cursor|prepared_statement|prepared_xact|lock_status)$/,
  /^pg_config$/,
  /_(call|inline)_handler$|_inline_handler$/,
  /^plpgsql_validator$/,
]

/** Extensions all of whose functions read pages, log or other sessions, or act on files. */
export const adminExtensions = new Set(
  words(`pageinspect pg_walinspect pg_visibility pg_surgery pgstattuple pg_buffercache amcheck
  pgrowlocks pg_prewarm pg_freespacemap old_snapshot pg_stat_statements postgres_fdw file_fdw
  pg_logicalinspect dblink plperl plperlu plpython3u pltcl pltclu`),
)
export const fileExtensions = new Set(['adminpack', 'lo'])

/** Functions of contrib extensions that are total though not marked leakproof. */
export const totalExtensionFunctions = new Set(
  words(`citext:citext_eq citext:citext_ne citext:citext_lt citext:citext_le citext:citext_gt
  citext:citext_ge citext:citext_cmp citext:citext_larger citext:citext_smaller citext:citext
  citext:citext_hash citext:citextout citext:citextin citext:min citext:max
  hstore:fetchval hstore:exist hstore:exists_any hstore:exists_all hstore:defined hstore:akeys
  hstore:avals hstore:hs_contains hstore:hs_contained hstore:hstore_eq hstore:hstore_ne
  hstore:hstore_out`),
)

/** Volatile functions that have been looked at: no file, no administration, no SQL as text. */
export const volatileReviewed = new Set(
  words(`
  amvalidate array_sample array_shuffle bernoulli system brinhandler bthandler ginhandler
  gisthandler hashhandler spghandler heap_tableam_handler clock_timestamp current_query currval
  dsnowball_init dsnowball_lexize gen_random_uuid lastval nextval setval
  pg_advisory_lock pg_advisory_lock_shared pg_advisory_unlock pg_advisory_unlock_all
  pg_advisory_unlock_shared pg_advisory_xact_lock pg_advisory_xact_lock_shared
  pg_try_advisory_lock pg_try_advisory_lock_shared pg_try_advisory_xact_lock
  pg_try_advisory_xact_lock_shared pg_blocking_pids pg_collation_actual_version
  pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system
  pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn
  pg_database_collation_actual_version pg_database_size pg_get_multixact_members
  pg_get_sequence_data pg_get_wait_events pg_get_wal_replay_pause_state
  pg_get_wal_resource_managers pg_indexes_size pg_is_in_backup pg_is_in_recovery
  pg_is_wal_replay_paused pg_isolation_test_session_is_blocked pg_jit_available
  pg_last_committed_xact pg_last_wal_receive_lsn pg_last_wal_replay_lsn
  pg_last_xact_replay_timestamp pg_notification_queue_usage pg_notify pg_partition_ancestors
  pg_partition_tree pg_relation_size pg_safe_snapshot_blocking_pids pg_sequence_last_value
  pg_sleep pg_sleep_for pg_sleep_until pg_stat_clear_snapshot pg_stat_force_next_flush
  pg_stat_get_backend_io pg_stat_get_backend_wal pg_stat_get_io pg_stat_get_recovery_prefetch
  pg_stat_have_stats pg_table_size pg_tablespace_size pg_total_relation_size
  pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_xact_status random random_normal
  set_config setseed timeofday timezone txid_status uuidv4 uuidv7
  `),
)
export const volatileReviewedPatterns = [/^pg_stat_get_xact_/]

/** Types whose input function takes any text. Every other one refuses some: partial. */
export const totalInputTypes = new Set(words('text varchar bpchar name char unknown cstring'))
/** Types whose output can fail, or is no text that stands for the value. */
export const partialOutputTypes = new Set(words('gtsvector internal'))

/** System relations that are not harmless. */
export const relationClasses = {
  values: words(`pg_statistic pg_statistic_ext_data pg_stats pg_stats_ext pg_stats_ext_exprs
    pg_largeobject`),
  activity: words(`pg_stat_activity pg_stat_replication pg_stat_wal_receiver pg_stat_ssl
    pg_stat_gssapi pg_stat_subscription pg_locks pg_cursors pg_prepared_statements
    pg_prepared_xacts pg_backend_memory_contexts pg_replication_slots
    pg_replication_origin_status pg_shmem_allocations pg_shmem_allocations_numa pg_aios
    pg_stat_progress_analyze pg_stat_progress_basebackup pg_stat_progress_cluster
    pg_stat_progress_copy pg_stat_progress_create_index pg_stat_progress_vacuum`),
  secrets: words(`pg_authid pg_shadow pg_user_mapping pg_user_mappings pg_subscription
    information_schema._pg_user_mappings information_schema.user_mapping_options`),
  settings: words(`pg_settings pg_file_settings pg_hba_file_rules pg_ident_file_mappings
    pg_db_role_setting`),
}
/** Relations that contrib extensions bring. */
export const extensionRelations = {
  activity: words(`pg_stat_statements:pg_stat_statements pg_buffercache:pg_buffercache`),
  harmless: words(`pg_stat_statements:pg_stat_statements_info`),
}
