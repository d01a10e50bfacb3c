/** Each rule that a client can be told of has its place in docs/policies. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { packDirectory } from './pack.ts'

const docs = join(packDirectory, '..', 'docs', 'policies')

it('every rule of the pack is described', () => {
  const described = readFileSync(join(docs, 'README.md'), 'utf8')
  const rules = new Set<string>()
  for (const name of readdirSync(packDirectory, { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.rego') || name.endsWith('_test.rego')) continue
    const source = readFileSync(join(packDirectory, name), 'utf8')
    for (const [, rule = ''] of source.matchAll(/"rule": "(regate[a-z._]*)"/g)) rules.add(rule)
  }
  expect(rules.size).toBeGreaterThan(15)
  expect([...rules].filter((rule) => !described.includes(rule))).toEqual([])
})

it('every page that the table links to is there', () => {
  const described = readFileSync(join(docs, 'README.md'), 'utf8')
  const files = readdirSync(docs)
  const linked = [...described.matchAll(/\]\((regate[a-z._]*\.md)\)/g)].map(([, file = '']) => file)
  expect(linked.filter((file) => !files.includes(file))).toEqual([])
})
