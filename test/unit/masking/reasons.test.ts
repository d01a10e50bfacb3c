/**
 * Whatever the analysis or a mask plan may say when a statement is refused is explained in docs/: the
 * texts are taken from the sources, so that a new one without an explanation fails here.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const literal = `(?:'((?:[^'\\\\]|\\\\.)*)'|\`([^\`]*)\`)`

/** Texts that follow `before`, with `…` for whatever is filled in; the first part of a longer one. */
function textsAfter(before: string, folder: string, files = /\.ts$/): readonly string[] {
  const texts = new Set<string>()
  for (const file of readdirSync(folder).filter((name) => files.test(name))) {
    const source = readFileSync(join(folder, file), 'utf8')
    for (const [, plain, template] of source.matchAll(new RegExp(`${before}\\s*${literal}`, 'g'))) {
      const text = (plain ?? template ?? '').replaceAll(/\$\{(?:[^{}]|\{[^}]*\})*\}/g, '…')
      texts.add(text.replaceAll(/…[.…]*…/g, '…').trim())
    }
  }
  return [...texts]
}

/** The first column of every table of a page, each cell without its backquotes. */
function explained(page: string): readonly string[] {
  return [...readFileSync(page, 'utf8').matchAll(/^\| `([^`]+)` \|/gm)].map(([, cell = '']) => cell)
}

describe('each reason for a refusal is explained', () => {
  it('why the analysis of a statement is incomplete', () => {
    const texts = textsAfter('\\.fail\\(', 'src/sql')
    expect(texts.length).toBeGreaterThan(35)
    const page = explained('docs/policies/regate.access.incomplete.md')
    expect(texts.filter((text) => !page.includes(text))).toEqual([])
    // What nothing says any more is no explanation.
    expect(page.filter((text) => !texts.includes(text))).toEqual([])
  })

  it('why a mask plan refuses or stops a result', () => {
    const texts = [
      ...textsAfter('reason:', 'src/masking', /^(?:plan|bind)\.ts$/),
      ...textsAfter('return \\(', 'src/masking', /^bind\.ts$/),
      ...textsAfter('cannot\\(', 'src/masking', /^copy-options\.ts$/),
    ]
    expect(texts.length).toBeGreaterThan(10)
    const page = explained('docs/guides/masking.md')
    expect(texts.filter((text) => !page.some((cell) => cell.startsWith(text)))).toEqual([])
  })

  it('every use of a masked column that the shipped policies refuse', () => {
    const rego = readFileSync('policies/regate/masking/masking.rego', 'utf8')
    const table = /_use_texts := \{([^}]*)\}/.exec(rego)?.[1] ?? ''
    const uses = [...table.matchAll(/"\w+": "([^"]+)"/g)].map(([, text = '']) => text)
    expect(uses.length).toBeGreaterThan(10)
    const page = explained('docs/policies/regate.masking.inference.md')
    expect(uses.filter((use) => !page.includes(use))).toEqual([])
  })
})
