/**
 * The rules of the house that no linter knows: layers, sizes (ratcheted), banned words, and a head
 * comment in every file. An exception is written down in ratchet.json with what it is now: who makes
 * it smaller writes the new figure, and nobody a larger one.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import ts from 'typescript'
import { describe, expect, test } from 'vitest'

const layers = [
  'main.ts',
  'commands',
  'config',
  'control',
  'console',
  'server',
  'session',
  'gate',
  'upstream',
  'approval',
  'masking',
  'policy',
  'sql',
  'audit',
  'identity',
  'wire',
  'core',
]
const pureLayers = ['wire', 'sql', 'policy', 'masking', 'gate', 'session', 'core']
const pureForbidden =
  /^node:(net|tls|fs|fs\/promises|http|https|dgram|dns|child_process|process|cluster)$/

const functionLinesMax = 70
const fileLinesMax = 500
const headLinesMax = 15

const ratchet = JSON.parse(readFileSync('test/tidy/ratchet.json', 'utf8')) as {
  files: Record<string, number>
  functions: Record<string, number>
  layers: string[]
}

function tracked(): string[] {
  try {
    const listed = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      maxBuffer: 1 << 26,
    })
    return listed.split('\n').filter((path) => path !== '' && existsSync(path))
  } catch {
    return ts.sys.readDirectory('.', undefined, ['node_modules', 'dist', 'coverage', '.git'])
  }
}

const files = tracked()
const sources = files.filter((path) => path.endsWith('.ts') && !path.endsWith('.d.ts'))
const production = sources.filter((path) => path.startsWith('src/'))
const isData = (path: string): boolean =>
  /\/data\//.test(path) || /(-table|-data|-classes|\.data)\.ts$/.test(path)

function layerOf(path: string): string {
  return path.split('/')[1] ?? ''
}

function importsOf(path: string): string[] {
  const { importedFiles } = ts.preProcessFile(readFileSync(path, 'utf8'), true, true)
  return importedFiles.map(({ fileName }) => fileName)
}

test('imports point downwards, and across folders only to the face of a folder', () => {
  const broken: string[] = []
  for (const path of production) {
    const from = layers.indexOf(layerOf(path))
    if (from === -1) broken.push(`${path}: ${layerOf(path)} is no layer`)
    for (const name of importsOf(path)) {
      if (!name.startsWith('.')) continue
      const target = normalize(join(dirname(path), name))
      const to = layerOf(target)
      if (to === layerOf(path)) continue
      const place = `${path} → ${target}`
      if (layers.indexOf(to) <= from) broken.push(`${place} points upwards`)
      else if (target !== `src/${to}/${to}.ts`) broken.push(`${place} is not the folder's face`)
    }
  }
  expect(broken).toEqual([])
})

test('the core touches no socket, clock, environment or file', () => {
  const broken: string[] = []
  for (const path of production.filter((name) => pureLayers.includes(layerOf(name)))) {
    if (path === 'src/core/clock.ts') continue
    for (const name of importsOf(path)) {
      if (pureForbidden.test(name)) broken.push(`${path} imports ${name}`)
    }
    const text = stripComments(readFileSync(path, 'utf8'))
    for (const word of ['process.env', 'process.cwd', 'Date.now(', 'new Date()', 'process.exit']) {
      if (text.includes(word)) broken.push(`${path} uses ${word}`)
    }
  }
  expect(broken).toEqual(ratchet.layers)
})

test('each WASM engine is imported by exactly one file', () => {
  for (const engine of ['libpg-query', '@open-policy-agent/opa-wasm']) {
    const users = production.filter((path) =>
      importsOf(path).some((name) => name === engine || name.startsWith(`${engine}/`)),
    )
    expect(users.length, `${engine}: ${users.join(', ')}`).toBeLessThanOrEqual(1)
  }
})

test('what the product imports is installed with it', () => {
  const { dependencies, optionalDependencies } = JSON.parse(
    readFileSync('package.json', 'utf8'),
  ) as Record<string, Readonly<Record<string, string>>>
  const broken: string[] = []
  for (const path of production) {
    // Types are for the build alone.
    const text = readFileSync(path, 'utf8').replace(/^import type [\s\S]*?'$/gm, '')
    for (const { fileName } of ts.preProcessFile(text, true, true).importedFiles) {
      const name = /^(@[^/]+\/)?[^/]+/.exec(fileName)?.[0] ?? ''
      if (name.startsWith('.') || name.startsWith('node:')) continue
      if (dependencies?.[name] === undefined && optionalDependencies?.[name] === undefined) {
        broken.push(`${path} imports ${name}`)
      }
    }
  }
  // Only where it runs from source, for tests.
  expect(broken).toEqual(['src/console/assets.ts imports typescript'])
})

test('no file starts without saying what it owns', () => {
  const broken: string[] = []
  for (const path of sources.filter((name) => !name.endsWith('.test.ts'))) {
    const text = readFileSync(path, 'utf8').replace(/^#!.*\n/, '')
    const head = /^(\/\*[\s\S]*?\*\/|(\/\/.*\n)+)/.exec(text)?.[0]
    if (head === undefined) broken.push(`${path}: no head comment`)
    else if (head.trim().split('\n').length > headLinesMax + 2) {
      broken.push(`${path}: head comment above ${headLinesMax} lines`)
    }
  }
  expect(broken).toEqual([])
})

/** Shared with the words below: comments may speak of what code may not do. */
function stripComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|[^:'"`])\/\/.*$/gm, '$1')
}

describe('sizes', () => {
  test('files stay below 500 lines, or below what ratchet.json says', () => {
    const sizes = new Map(
      production
        .filter((name) => !isData(name))
        .map((path) => [path, readFileSync(path, 'utf8').split('\n').length - 1]),
    )
    expect(misfits(sizes, ratchet.files, fileLinesMax)).toEqual([])
  })

  test('functions stay below 70 lines, or below what ratchet.json says', () => {
    const sizes = new Map<string, number>()
    for (const path of production.filter((name) => !isData(name))) {
      for (const [name, lines] of functionSizes(path)) {
        const key = `${path}#${name}`
        sizes.set(key, Math.max(lines, sizes.get(key) ?? 0))
      }
    }
    expect(misfits(sizes, ratchet.functions, functionLinesMax)).toEqual([])
  })
})

/** What is too large, and exceptions that are larger than what they are for: it would grow again. */
function misfits(
  sizes: ReadonlyMap<string, number>,
  exceptions: Readonly<Record<string, number>>,
  max: number,
): string[] {
  const found: string[] = []
  for (const [name, lines] of sizes) {
    const allowed = exceptions[name] ?? max
    if (lines > allowed) found.push(`${name}: ${lines} lines, allowed ${allowed}`)
  }
  for (const [name, allowed] of Object.entries(exceptions)) {
    const lines = sizes.get(name) ?? 0
    if (lines <= max) found.push(`${name} needs no exception: take it out of ratchet.json`)
    else if (lines < allowed)
      found.push(`${name}: write ${lines} into ratchet.json, not ${allowed}`)
  }
  return found
}

function functionSizes(path: string): [string, number][] {
  const source = ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.ES2023, true)
  const sizes: [string, number][] = []
  const lineOf = (position: number): number => source.getLineAndCharacterOfPosition(position).line
  const visit = (node: ts.Node): void => {
    if (ts.isFunctionLike(node) && 'body' in node && node.body !== undefined) {
      const named = 'name' in node ? node.name : undefined
      const name = named !== undefined ? named.getText(source) : nameOfParent(node, source)
      sizes.push([name, lineOf(node.getEnd()) - lineOf(node.getStart(source)) + 1])
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return sizes
}

function nameOfParent(node: ts.Node, source: ts.SourceFile): string {
  const parent = node.parent
  if (ts.isVariableDeclaration(parent) || ts.isPropertyAssignment(parent)) {
    return parent.name.getText(source)
  }
  return ts.isConstructorDeclaration(node) ? 'constructor' : '(anonymous)'
}

test('no words that do not belong on main', () => {
  // Written in pieces, so that this file passes its own test.
  const banned = [
    ['TO', 'DO'],
    ['FIX', 'ME'],
    ['HA', 'CK:'],
    ['XX', 'X '],
    ['/work', '/main'],
    ['/work', '/shared'],
    ['/root', '/'],
    ['console.', 'debug('],
    ['.only', '('],
    ['eslint-disable ', '*/'],
  ].map((parts) => parts.join(''))
  const broken: string[] = []
  const text = /\.(ts|js|mjs|md|json|ya?ml|rego|sql|sh|svg|html|css)$|Dockerfile|\.ci\/run/
  const skipped = /^(package-lock\.json|test\/corpus\/|test\/fuzz\/crashers\/|bench\/results\/)/
  for (const path of files.filter((name) => text.test(name) && !skipped.test(name))) {
    const lines = readFileSync(path, 'utf8').split('\n')
    lines.forEach((line, index) => {
      for (const word of banned) {
        const hit = /^[A-Z:]+$/.test(word)
          ? new RegExp(`\\b${word}\\b`).test(line)
          : line.includes(word)
        if (hit) broken.push(`${path}:${index + 1}: ${word}`)
      }
    })
  }
  expect(broken).toEqual([])
})
