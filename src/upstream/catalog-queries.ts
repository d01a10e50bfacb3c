/**
 * The queries that read a catalog, for PostgreSQL 14 to 18, as an ordinary role. Each gives rows of
 * one text column `row` that holds JSON, so that any client can run them, whatever it makes of oids
 * and arrays. They are read with `search_path = pg_catalog, pg_temp`: every name in a definition
 * outside pg_catalog is qualified, and no temporary table can stand in for a catalog.
 *
 * `Scope` narrows them to what changed since a transaction id, for a session's own view. Temporary
 * objects of other sessions are in none of them: nobody else can use those.
 */

/** What to read: all, what this transaction or a later one wrote, or these objects. */
export type Scope =
  | { readonly kind: 'all' }
  | { readonly kind: 'since'; readonly xid: string }
  | { readonly kind: 'oids'; readonly oids: readonly number[] }

/** The session's path, whatever it is, is put back by whoever set this. */
export const loaderPath = 'pg_catalog, pg_temp'

/** Schemas that hold temporary objects of others, as oids. */
const othersTemporary = `(SELECT o.oid FROM pg_namespace o WHERE pg_is_other_temp_schema(o.oid))`

/** pg_temp_N and pg_toast_temp_N of the session that asks, as oids. */
const ownTemporary = `(SELECT o.oid FROM pg_namespace o
  WHERE o.nspname ~ '^pg_(toast_)?temp_[0-9]+$' AND NOT pg_is_other_temp_schema(o.oid))`

const user = `n.nspname NOT IN ('pg_catalog', 'information_schema')`

/** Rows of alias x that are at least as new as the scope. Frozen rows are infinitely old. */
function fresh(alias: string, scope: string): string {
  return `age(${alias}.xmin) <= age('${scope}'::xid)`
}

function freshRows(table: string, key: string, scope: string, condition = 'true'): string {
  return `SELECT x.${key} FROM ${table} x WHERE ${fresh('x', scope)} AND ${condition}`
}

/**
 * Objects whose rows changed, and what is written down in their terms: a view's text names the
 * tables it reads, so it is read again when one of them is renamed. The session's own temporary
 * objects are always among them: no catalog that it shares has them.
 */
export function changedObjects(scope: string): string {
  const inSchema = (table: string, key: string) =>
    `SELECT x.oid FROM ${table} x JOIN pg_namespace n ON n.oid = x.${key}
      WHERE ${fresh('n', scope)} OR n.oid IN ${ownTemporary}`
  const relations = [
    freshRows('pg_class', 'oid', scope),
    inSchema('pg_class', 'relnamespace'),
    freshRows('pg_attribute', 'attrelid', scope),
    freshRows('pg_attrdef', 'adrelid', scope),
    freshRows('pg_rewrite', 'ev_class', scope),
    freshRows('pg_trigger', 'tgrelid', scope),
    freshRows('pg_inherits', 'inhrelid', scope),
    freshRows('pg_index', 'indrelid', scope),
    freshRows('pg_constraint', 'conrelid', scope, 'x.conrelid <> 0'),
  ]
  const functions = [freshRows('pg_proc', 'oid', scope), inSchema('pg_proc', 'pronamespace')]
  const types = [
    freshRows('pg_type', 'oid', scope),
    inSchema('pg_type', 'typnamespace'),
    freshRows('pg_enum', 'enumtypid', scope),
    freshRows('pg_constraint', 'contypid', scope, 'x.contypid <> 0'),
  ]
  const operators = [
    freshRows('pg_operator', 'oid', scope),
    inSchema('pg_operator', 'oprnamespace'),
  ]
  return `WITH direct(class, id) AS MATERIALIZED (
    SELECT 'pg_class'::regclass, u.oid FROM (${relations.join(' UNION ')}) u
    UNION SELECT 'pg_proc'::regclass, u.oid FROM (${functions.join(' UNION ')}) u
    UNION SELECT 'pg_type'::regclass, u.oid FROM (${types.join(' UNION ')}) u
    UNION SELECT 'pg_operator'::regclass, u.oid FROM (${operators.join(' UNION ')}) u
  ), dependent(class, id) AS MATERIALIZED (
    SELECT d.classid, d.objid FROM pg_depend d
    JOIN direct c ON c.class = d.refclassid AND c.id = d.refobjid AND d.deptype IN ('n', 'a', 'i')
  ), changed(class, id) AS MATERIALIZED (
    SELECT class, id FROM direct
    UNION SELECT class, id FROM dependent
    UNION SELECT 'pg_class'::regclass, r.ev_class FROM dependent e JOIN pg_rewrite r
      ON e.class = 'pg_rewrite'::regclass AND r.oid = e.id
    UNION SELECT 'pg_class'::regclass, a.adrelid FROM dependent e JOIN pg_attrdef a
      ON e.class = 'pg_attrdef'::regclass AND a.oid = e.id
    UNION SELECT 'pg_class'::regclass, g.tgrelid FROM dependent e JOIN pg_trigger g
      ON e.class = 'pg_trigger'::regclass AND g.oid = e.id
    UNION SELECT 'pg_class'::regclass, o.conrelid FROM dependent e JOIN pg_constraint o
      ON e.class = 'pg_constraint'::regclass AND o.oid = e.id AND o.conrelid <> 0
  )`
}

/** The condition that narrows a query to the scope; of `since`: over `changedObjects`. */
function narrow(scope: Scope, table: string, key: string): string {
  switch (scope.kind) {
    case 'all':
      return 'true'
    case 'oids':
      return `${key} IN (${['0', ...scope.oids.map(Number)].join(', ')})`
    case 'since':
      return `${key} IN (SELECT id FROM changed WHERE class = '${table}'::regclass)`
  }
}

/** Version, database and the transaction that this is read in. */
export const headerQuery = `SELECT json_build_object(
  'version', current_setting('server_version_num')::int, 'database', current_database(),
  'snapshot', pg_current_snapshot()::text,
  'xmin', (pg_snapshot_xmin(pg_current_snapshot())::text::numeric % 4294967296)::text)::text AS row`

/**
 * Role → a member that has its privileges by itself (roles_is_member_of in src/backend/utils/adt/acl.c):
 * before 16 a member's own attribute says whether it inherits, since then the grant does.
 */
const inheritingMembers = `SELECT m.roleid, m.member
  FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
  WHERE coalesce((to_jsonb(m) ->> 'inherit_option')::bool, r.rolinherit)
  UNION ALL SELECT o.oid, d.datdba
  FROM pg_roles o, pg_database d JOIN pg_roles r ON r.oid = d.datdba
  WHERE o.rolname = 'pg_database_owner' AND d.datname = current_database()
    AND (r.rolinherit OR current_setting('server_version_num')::int >= 160000)`

/**
 * All schemas, with who may use them where not everybody may: computed from the grants, because asking
 * has_schema_privilege for each role and schema takes seconds where both are many.
 */
export const schemasQuery = `WITH RECURSIVE granted(schema, role) AS MATERIALIZED (
    SELECT n.oid, a.grantee FROM pg_namespace n
    CROSS JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
    WHERE a.privilege_type = 'USAGE'
  ), closed(schema) AS MATERIALIZED (
    SELECT n.oid FROM pg_namespace n WHERE n.nspname !~ '^pg_(toast_)?temp_[0-9]+$'
      AND n.oid NOT IN (SELECT g.schema FROM granted g WHERE g.role = 0)
  ), inheriting(role, member) AS MATERIALIZED (${inheritingMembers}
  ), using_it(schema, role) AS (
    SELECT c.schema, g.role FROM closed c JOIN granted g ON g.schema = c.schema
    UNION SELECT c.schema, r.oid FROM closed c CROSS JOIN pg_roles r
      WHERE r.rolname IN ('pg_read_all_data', 'pg_write_all_data')
    UNION SELECT u.schema, i.member FROM using_it u JOIN inheriting i ON i.role = u.role
  ), allowed(schema, names) AS MATERIALIZED (
    SELECT a.schema, json_agg(r.rolname ORDER BY r.rolname)
    FROM (SELECT u.schema, u.role FROM using_it u
      UNION SELECT c.schema, s.oid FROM closed c CROSS JOIN pg_roles s WHERE s.rolsuper) a
    JOIN pg_roles r ON r.oid = a.role GROUP BY a.schema
  )
  SELECT json_build_object('oid', n.oid::int8, 'name', n.nspname,
    'users', CASE WHEN c.schema IS NOT NULL THEN coalesce(a.names, '[]'::json) END)::text AS row
  FROM pg_namespace n LEFT JOIN closed c ON c.schema = n.oid LEFT JOIN allowed a ON a.schema = n.oid
  WHERE n.oid NOT IN ${othersTemporary} ORDER BY n.oid`

const columns = `(SELECT coalesce(json_agg(json_build_array(a.attnum, a.attname, a.atttypid::int8,
    a.atttypmod, a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attgenerated, a.attidentity, CASE WHEN a.attcollation NOT IN (0, 100)
      THEN (SELECT l.collname FROM pg_collation l WHERE l.oid = a.attcollation) END)
    ORDER BY a.attnum), '[]'::json)
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)`

const expressions = `(SELECT coalesce(json_agg(e.text), '[]'::json) FROM (
    SELECT pg_get_expr(i.indexprs, i.indrelid) AS text FROM pg_index i WHERE i.indrelid = c.oid AND i.indexprs IS NOT NULL
    UNION ALL SELECT pg_get_expr(i.indpred, i.indrelid) FROM pg_index i WHERE i.indrelid = c.oid AND i.indpred IS NOT NULL
    UNION ALL SELECT pg_get_expr(o.conbin, o.conrelid) FROM pg_constraint o WHERE o.conrelid = c.oid AND o.conbin IS NOT NULL
    UNION ALL SELECT pg_get_expr(p.partexprs, p.partrelid) FROM pg_partitioned_table p WHERE p.partrelid = c.oid AND p.partexprs IS NOT NULL
  ) e WHERE e.text IS NOT NULL)`

/** Columns of an index's key, and what its expressions and its predicate read. */
const indexColumns = `ARRAY(SELECT k.n FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(n, p)
    WHERE k.p <= i.indnkeyatts AND k.n <> 0 ORDER BY k.p)
  || CASE WHEN i.indexprs IS NOT NULL OR i.indpred IS NOT NULL THEN ARRAY(
    SELECT DISTINCT d.refobjsubid::int2 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
      AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid ORDER BY 1) ELSE '{}' END`

/** Before 15 there was no NULLS NOT DISTINCT. */
const nullsPass = `(i.indexprs IS NULL AND i.indpred IS NULL
  AND coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false) IS FALSE)`

/** Each as [kind, columns, nulls pass, validated, referenced relation, its columns, on update, on delete]. */
const constraints = `(SELECT coalesce(json_agg(e.cells ORDER BY e.key, e.id), '[]'::json) FROM (
    SELECT 1 AS key, o.oid AS id, json_build_array(o.contype, coalesce(o.conkey, '{}'), true, o.convalidated, o.confrelid::int8,
      coalesce(o.confkey, '{}'), o.confupdtype, o.confdeltype) AS cells
    FROM pg_constraint o WHERE o.conrelid = c.oid AND (o.contype IN ('c', 'f') OR (o.contype = 'n' AND NOT o.convalidated))
    UNION ALL SELECT 2, i.indexrelid, json_build_array(CASE WHEN i.indisprimary THEN 'p' WHEN i.indisexclusion THEN 'x' ELSE 'u' END,
      ${indexColumns}, ${nullsPass}, true)
    FROM pg_index i WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)
    UNION ALL SELECT 3, 0, json_build_array('k', ARRAY(SELECT k.n FROM unnest(p.partattrs::int2[]) k(n) WHERE k.n <> 0)
      || CASE WHEN p.partexprs IS NOT NULL THEN ARRAY(SELECT DISTINCT d.objsubid::int2 FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid > 0
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.deptype = 'i' ORDER BY 1) ELSE '{}' END, false, true)
    FROM pg_partitioned_table p WHERE p.partrelid = c.oid) e)`

/**
 * Relations after an oid, a page at a time. The definitions of system views are left out: they are
 * classed by themselves (src/sql/data/relations.ts), as pg_roles is harmless and pg_authid is not.
 */
export function relationsQuery(scope: Scope, after: number, limit: number): string {
  const where = narrow(scope, 'pg_class', 'c.oid')
  return `SELECT json_build_object(
    'oid', c.oid::int8, 'schema', n.nspname, 'name', c.relname, 'kind', c.relkind,
    'rowType', c.reltype::int8,
    'rowArrayType', coalesce((SELECT t.typarray::int8 FROM pg_type t WHERE t.oid = c.reltype), 0),
    'columns', CASE WHEN c.relkind IN ('i', 'I') THEN '[]'::json ELSE ${columns} END,
    'definition', CASE WHEN c.relkind IN ('v', 'm') AND ${user} THEN pg_get_viewdef(c.oid) END,
    'parents', ARRAY(SELECT h.inhparent::int8 FROM pg_inherits h WHERE h.inhrelid = c.oid ORDER BY h.inhseqno),
    'isPartition', c.relispartition, 'rowSecurity', c.relrowsecurity,
    'rules', CASE WHEN c.relhasrules AND ${user} THEN
      (SELECT coalesce(json_agg(json_build_object('name', r.rulename, 'definition', pg_get_ruledef(r.oid)) ORDER BY r.rulename), '[]'::json)
       FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN') ELSE '[]'::json END,
    'triggers', CASE WHEN c.relhastriggers THEN
      (SELECT coalesce(json_agg(json_build_object('name', g.tgname, 'function', g.tgfoid::int8,
        'definition', pg_get_triggerdef(g.oid)) ORDER BY g.tgname), '[]'::json)
       FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal) ELSE '[]'::json END,
    'expressions', CASE WHEN c.relkind IN ('r', 'p', 'm', 'f') AND ${user} THEN ${expressions} ELSE '[]'::json END,
    'constraints', CASE WHEN c.relkind IN ('r', 'p', 'm', 'f') AND ${user} THEN ${constraints} ELSE '[]'::json END,
    'temporary', c.relpersistence = 't', 'ofType', c.reloftype::int8,
    'owner', CASE c.relkind WHEN 't' THEN (SELECT d.refobjid::int8 FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i' LIMIT 1)
      ELSE (SELECT i.indrelid::int8 FROM pg_index i WHERE i.indexrelid = c.oid) END,
    'reads', CASE WHEN c.relkind IN ('v', 'm') THEN ARRAY(SELECT DISTINCT d.refobjid::int8 FROM pg_rewrite r
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
      WHERE r.ev_class = c.oid AND r.rulename = '_RETURN' AND d.refobjid <> c.oid) END,
    'extension', (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e' LIMIT 1)
  )::text AS row
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.oid > ${after} AND NOT (c.relkind = 'i' AND n.nspname IN ('pg_toast', 'pg_catalog', 'information_schema'))
    AND NOT (c.relkind = 't' AND c.oid < 16384) AND n.oid NOT IN ${othersTemporary} AND ${where}
  ORDER BY c.oid LIMIT ${limit}`
}

/**
 * Types outside the built-in table. A relation's row type and its array are left out: they follow
 * from the relation itself.
 */
export function typesQuery(scope: Scope, after: number, limit: number): string {
  const where = narrow(scope, 'pg_type', 't.oid')
  // A domain that loses a check is not written to: domains are few, they are always read.
  return `SELECT json_build_object(
    'oid', t.oid::int8, 'schema', n.nspname, 'name', t.typname, 'kind', t.typtype,
    'category', t.typcategory,
    'element', CASE WHEN t.typsubscript = 'array_subscript_handler'::regproc THEN t.typelem::int8 ELSE 0 END,
    'array', t.typarray::int8, 'base', t.typbasetype::int8, 'modifier', t.typtypmod,
    'notNull', t.typnotnull, 'default', CASE WHEN t.typtype = 'd' THEN pg_get_expr(t.typdefaultbin, 0) END,
    'checks', ARRAY(SELECT pg_get_expr(o.conbin, 0) FROM pg_constraint o WHERE o.contypid = t.oid AND o.conbin IS NOT NULL ORDER BY o.conname),
    'relation', 0,
    'subtype', coalesce((SELECT r.rngsubtype::int8 FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)), 0),
    'labels', ARRAY(SELECT e.enumlabel FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder),
    'delimiter', t.typdelim)::text AS row
  FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    LEFT JOIN pg_type m ON m.oid = t.typelem AND t.typcategory = 'A'
  WHERE t.oid > ${after} AND t.oid >= 10000 AND t.typrelid = 0 AND coalesce(m.typrelid, 0) = 0
    AND n.oid NOT IN ${othersTemporary} AND (t.typtype = 'd' OR ${where})
  ORDER BY t.oid LIMIT ${limit}`
}

/** Functions outside the built-in table: those of the initial catalogs have oids below 16384. */
export function functionsQuery(scope: Scope, after: number, limit: number): string {
  const where = narrow(scope, 'pg_proc', 'p.oid')
  return `SELECT json_build_object(
    'oid', p.oid::int8, 'schema', n.nspname, 'name', p.proname, 'kind', p.prokind,
    'language', l.lanname, 'volatility', p.provolatile, 'strict', p.proisstrict,
    'securityDefiner', p.prosecdef, 'owner', CASE WHEN p.prosecdef THEN pg_get_userbyid(p.proowner) END, 'returnsSet', p.proretset, 'returnType', p.prorettype::int8,
    'argumentTypes', ARRAY(SELECT a.o::int8 FROM unnest(p.proargtypes) WITH ORDINALITY a(o, i) ORDER BY i),
    'arguments', (SELECT coalesce(json_agg(json_build_object('name', coalesce(p.proargnames[a.i], ''),
        'mode', coalesce(p.proargmodes[a.i], 'i'), 'type', a.o::int8) ORDER BY a.i), '[]'::json)
      FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY a(o, i)),
    'defaultCount', p.pronargdefaults, 'defaults', pg_get_expr(p.proargdefaults, 0), 'variadic', p.provariadic <> 0,
    'body', CASE WHEN p.prosqlbody IS NOT NULL THEN pg_get_function_sqlbody(p.oid)
      WHEN l.lanname IN ('c', 'internal') THEN NULL ELSE p.prosrc END,
    'bodyIsParsed', p.prosqlbody IS NOT NULL, 'settings', coalesce(p.proconfig, '{}'),
    'extension', (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
      WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' LIMIT 1)
  )::text AS row
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
  WHERE p.oid > ${after} AND p.oid >= 16384 AND n.oid NOT IN ${othersTemporary} AND ${where}
  ORDER BY p.oid LIMIT ${limit}`
}

export function operatorsQuery(scope: Scope, after: number, limit: number): string {
  const where = narrow(scope, 'pg_operator', 'o.oid')
  return `SELECT json_build_object('oid', o.oid::int8, 'schema', n.nspname,
    'name', o.oprname, 'left', o.oprleft::int8, 'right', o.oprright::int8,
    'function', o.oprcode::oid::int8, 'result', o.oprresult::int8)::text AS row
  FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
  WHERE o.oid > ${after} AND o.oid >= 16384 AND n.oid NOT IN ${othersTemporary} AND ${where}
  ORDER BY o.oid LIMIT ${limit}`
}

export const castsQuery = `SELECT json_build_object('source', castsource::int8,
  'target', casttarget::int8, 'function', castfunc::int8, 'context', castcontext,
  'method', castmethod)::text AS row FROM pg_cast WHERE oid >= 16384 ORDER BY oid`

export const extensionsQuery = `SELECT json_build_object('name', e.extname, 'schema', n.nspname)::text AS row
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace ORDER BY e.extname`

export const storedSettingsQuery = `SELECT json_build_object('role', r.rolname,
    'name', split_part(s.item, '=', 1), 'value', substr(s.item, strpos(s.item, '=') + 1))::text AS row
  FROM pg_db_role_setting d LEFT JOIN pg_roles r ON r.oid = d.setrole
  CROSS JOIN LATERAL unnest(d.setconfig) WITH ORDINALITY s(item, i)
  WHERE d.setdatabase IN (0, (SELECT b.oid FROM pg_database b WHERE b.datname = current_database()))
  ORDER BY r.rolname NULLS FIRST, d.setdatabase, s.i`

/** What hangs on a relation and leaves no trace in it when it is dropped. */
const attached = `SELECT tgrelid AS relation FROM pg_trigger WHERE NOT tgisinternal
  UNION ALL SELECT ev_class FROM pg_rewrite WHERE rulename <> '_RETURN'
  UNION ALL SELECT indrelid FROM pg_index WHERE indexprs IS NOT NULL
  UNION ALL SELECT indrelid FROM pg_index WHERE indpred IS NOT NULL
  UNION ALL SELECT indrelid FROM pg_index WHERE indisunique OR indisexclusion
  UNION ALL SELECT conrelid FROM pg_constraint WHERE conrelid <> 0 AND conbin IS NOT NULL
  UNION ALL SELECT conrelid FROM pg_constraint WHERE conrelid <> 0 AND (contype IN ('c', 'f') OR (contype = 'n' AND NOT convalidated))
  UNION ALL SELECT partrelid FROM pg_partitioned_table WHERE partexprs IS NOT NULL
  UNION ALL SELECT partrelid FROM pg_partitioned_table
  UNION ALL SELECT inhrelid FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid`

/**
 * Oids that are there now, so that what was dropped is known; and how many triggers, rules, parents,
 * expressions and constraints each relation has, as [oid, count], so that it is read again when one is gone.
 */
export const presentQuery = `SELECT json_build_object(
  'relations', ARRAY(SELECT oid::int8 FROM pg_class),
  'types', ARRAY(SELECT oid::int8 FROM pg_type WHERE oid >= 10000 AND typrelid = 0),
  'functions', ARRAY(SELECT oid::int8 FROM pg_proc WHERE oid >= 16384),
  'operators', ARRAY(SELECT oid::int8 FROM pg_operator WHERE oid >= 16384),
  'attached', (SELECT coalesce(json_agg(json_build_array(x.relation::int8, x.n)), '[]'::json)
    FROM (SELECT a.relation, count(*) AS n FROM (${attached}) a GROUP BY a.relation) x))::text AS row`

const watched = [
  'pg_namespace',
  'pg_class',
  'pg_attribute',
  'pg_attrdef',
  'pg_rewrite',
  'pg_trigger',
  'pg_inherits',
  'pg_index',
  'pg_constraint',
  'pg_proc',
  'pg_type',
  'pg_enum',
  'pg_range',
  'pg_operator',
  'pg_cast',
  'pg_extension',
  'pg_db_role_setting',
  'pg_auth_members',
]

/** What else decides who may use a schema. */
const roles = `(SELECT pg_catalog.concat(pg_catalog.count(*), '/', pg_catalog.sum(pg_catalog.hashtext(
    pg_catalog.concat(rolname, rolsuper, rolinherit))::pg_catalog.int8)) FROM pg_catalog.pg_roles),
  (SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())`

/** Which transactions are visible: where this is unchanged, nothing at all has changed. */
export const snapshotQuery = `SELECT pg_catalog.pg_current_snapshot()::text AS row`

/**
 * Changes with any DDL. A new row's xmin is larger than any before it, so that for an equal number
 * of rows the sum grows; ANALYZE and in-place updates of pg_class leave it alone.
 */
export const fingerprintQuery = `SELECT pg_catalog.concat_ws(' ', ${watched
  .map(
    (table) =>
      `(SELECT pg_catalog.concat(pg_catalog.count(*), '/', pg_catalog.sum(xmin::pg_catalog.text::pg_catalog.int8)) FROM pg_catalog.${table})`,
  )
  .join(', ')}, ${roles}) AS row`
