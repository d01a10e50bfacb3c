/**
 * Every node type of the grammar has been thought of: this test holds the analysis against
 * libpg_query's own list (@pgsql/types), so that a newer grammar cannot bring in a node unseen.
 */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { innerStatementNodes, statementNodes } from '../../../src/sql/parser-kinds.ts'
import { nodeTypes } from '../../../src/sql/analysis-nodes.ts'
import { utilityTable } from '../../../src/sql/utility.ts'

/** The members of `export type Node = { A: A } | { B: B } …`. */
function grammarNodes(): string[] {
  const path = new URL('../../../node_modules/@pgsql/types/types.d.ts', import.meta.url)
  const text = readFileSync(path, 'utf8')
  const start = text.indexOf('export type Node =')
  const end = text.indexOf('};', start)
  return [...text.slice(start, end + 2).matchAll(/^\s*(\w+): \1;/gm)].map((match) => match[1] ?? '')
}

const queries = ['SelectStmt', 'InsertStmt', 'UpdateStmt', 'DeleteStmt', 'MergeStmt']

describe('the grammar is covered', () => {
  test('the list of nodes is the grammar’s', () => {
    expect(Object.keys(nodeTypes).sort()).toEqual(grammarNodes().sort())
  })

  test('every statement is a query or in the table of utilities', () => {
    expect([...Object.keys(utilityTable), ...queries].sort()).toEqual([...statementNodes].sort())
  })

  test('every node that is said to be handled is named where it is said to be', () => {
    const text = new Map<string, string>()
    for (const [node, place] of Object.entries(nodeTypes)) {
      if (!place.endsWith('.ts')) continue
      if (!text.has(place)) {
        const path = new URL(`../../../src/sql/${place}`, import.meta.url)
        text.set(place, readFileSync(path, 'utf8'))
      }
      expect(text.get(place), `${node} in ${place}`).toMatch(new RegExp(`\\b${node}\\b`))
    }
  })

  test('statements that are never at the top are known as such', () => {
    for (const node of Object.keys(innerStatementNodes)) {
      expect(Object.keys(nodeTypes)).toContain(node)
    }
  })
})
