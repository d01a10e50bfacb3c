/**
 * An input in parts is judged like the same input as one text, whatever came before: nothing that an
 * evaluation does reaches the values that are kept parsed for the next.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { defaultLimits } from '../../src/core/core.ts'
import { joined, type InputParts } from '../../src/policy/input.ts'
import { Policy } from '../../src/policy/policy.ts'
import { buildDirectory, loadPack, packDirectory, readPack } from './pack.ts'

const entrypoint = 'regate/statement/decision'
const scratch = mkdtempSync(join(tmpdir(), 'regate-parts-'))
const policies: Policy[] = []
afterAll(() => {
  for (const policy of policies) policy.close()
  rmSync(scratch, { recursive: true, force: true })
})

type Document = Readonly<Record<string, unknown>>

function partsOf(document: Document): InputParts {
  const names = ['access', 'identity', 'session']
  const shared = names.map((name) => ({
    name,
    path: JSON.stringify([name]),
    text: JSON.stringify(document[name]),
  }))
  const { statement = { text: '', ast: {} }, ...others } = Object.fromEntries(
    Object.entries(document).filter(([name]) => !names.includes(name)),
  )
  const { text, ast, ...about } = statement as { text: string; ast: unknown }
  const members = (of: object): string => JSON.stringify(of).slice(1, -1)
  const [before, after] = [members(about), members(others)]
  return {
    ...{ shared, text, tree: JSON.stringify(ast) },
    beforeTree: `${before === '' ? '' : `,${before}`},"ast":`,
    afterTree: `}${after === '' ? '' : `,${after}`}`,
  }
}

/** Numbers that are the same in every run. */
function random(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** Every document in both forms, the parts in one instance and the texts in another. */
function compare(inParts: Policy, inText: Policy, documents: Iterable<Document>): number {
  let count = 0
  for (const document of documents) {
    const parts = partsOf(document)
    const answer = JSON.parse(inParts.evaluate(entrypoint, parts)) as unknown
    expect(answer).toEqual(JSON.parse(inText.evaluate(entrypoint, joined(parts))))
    expect(answer).not.toEqual([])
    count++
  }
  return count
}

test('the shipped pack, over its own fixtures in every order', async () => {
  const file = readFileSync(join(packDirectory, 'fixtures/data.json'), 'utf8')
  const fixtures = Object.values(JSON.parse(file) as Record<string, Document>)
  const documents = fixtures.filter((document) => 'statement' in document)
  expect(documents.length).toBeGreaterThan(20)
  const [inParts, inText] = [await loadPack(), await loadPack()]
  policies.push(inParts, inText)
  const below = random(7)
  const drawn = Array.from({ length: 1_500 }, () => documents[below(documents.length)] as Document)
  expect(compare(inParts, inText, drawn)).toBe(1_500)
})

/** Takes the shared members apart, changes and joins them with what builtins there are. */
const busy = `
decision := {"action": "allow", "reason": json.marshal(all)}

all := {
	"union": object.union(input.identity, {"user": "changed", "new": input.statement.text}),
	"removed": object.remove(input.session, ["role"]),
	"json_removed": json.remove(input, ["access/effects", "identity/claims/a"]),
	"filtered": json.filter(input, ["access/columns", "session/role"]),
	"sorted": sort(input.identity.groups),
	"groups": {g | some g in input.identity.groups} | {input.statement.text},
	"joined": array.concat(input.identity.groups, input.access.effects),
	"texts": [sprintf("%v %v", [g, input.statement.text]) | some g in input.identity.groups],
	"matching": [g | some g in input.identity.groups; regex.match("^[a-m]", g)],
	"replaced": strings.replace_n({"a": "b"}, input.session.role),
	"walked": count([path | walk(input, [path, _])]),
	"by_effect": {e: input.identity | some e in input.access.effects},
	"nested": [[c.id, i] | some i, c in input.access.columns],
	"whole": input,
}
`

test('a policy that takes its input apart, with kept values forgotten in between', async () => {
  cpSync(join(packDirectory, '.manifest'), join(scratch, '.manifest'))
  for (const [name, text] of [
    ['connect', 'decision := {"action": "allow"}\n'],
    ['statement', busy],
  ] as const) {
    mkdirSync(join(scratch, 'regate', name), { recursive: true })
    writeFileSync(
      join(scratch, 'regate', name, `${name}.rego`),
      `package regate.${name}\n\n${text}`,
    )
  }
  const bundle = await readPack(await buildDirectory(scratch))
  const [inParts, inText] = [
    await Policy.load(bundle, { limits: defaultLimits }),
    await Policy.load(bundle, { limits: defaultLimits }),
  ]
  policies.push(inParts, inText)
  const below = random(42)
  function* documents(): Generator<Document> {
    for (let n = 0; n < 1_200; n++) {
      const names = ['zoe', 'ann', 'bob', 'kim', 'é\u{1f600}', 'quote"\\'].slice(below(3))
      yield {
        statement: { text: `SELECT ${n}`, ast: { SelectStmt: { targetList: [{ n }] } } },
        access: {
          effects: ['read', 'write'].slice(below(2)),
          columns: Array.from({ length: below(40) }, (_, i) => ({
            id: `public.t${below(9)}.c${i}`,
          })),
        },
        // Every so often so much that what was kept is forgotten.
        identity: {
          user: 'u',
          groups: names,
          claims: { a: 'x'.repeat(below(12) === 0 ? 60_000 : 9) },
        },
        session: { role: ['app', 'banana'][below(2)], application_name: `psql ${below(30)}` },
        approval: null,
      }
    }
  }
  expect(compare(inParts, inText, documents())).toBe(1_200)
})
