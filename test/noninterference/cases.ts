/** The corpus as cases: `-- case: name`, then steps separated by `;;`. */
import { readFileSync } from 'node:fs'

export interface Case {
  readonly name: string
  readonly steps: readonly string[]
}

const corpus = new URL('../corpus/', import.meta.url)

export function corpusText(file: string): string {
  return readFileSync(new URL(file, corpus), 'utf8')
}

export function readCases(file: 'leaks.sql' | 'utility.sql'): readonly Case[] {
  const cases: Case[] = []
  for (const part of corpusText(file)
    .split(/^-- case: /m)
    .slice(1)) {
    const newline = part.indexOf('\n')
    cases.push({
      name: part.slice(0, newline).trim(),
      steps: part
        .slice(newline + 1)
        .split(';;')
        .map((step) => step.trim()),
    })
  }
  return cases
}
