/**
 * The console's files: style sheet, icon, and ES modules compiled from browser/*.ts. Read once,
 * compressed once, served with a hash so that a browser asks again only whether they changed.
 *
 * A module that imports a library by its bare name is given the library's address instead: an import
 * map would have to be an inline script, and there is none.
 */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { gzipSync } from 'node:zlib'

export interface Asset {
  readonly type: string
  readonly body: Buffer
  readonly gzipped: Buffer
  readonly etag: string
}

const modules = [
  'api',
  'approvals',
  'audit',
  'chart',
  'main',
  'overview',
  'parts',
  'policy',
  'replay',
  'request-words',
  'sandbox',
  'sessions',
  'words',
]
const libraries = new Map([
  ['preact', 'preact/dist/preact.mjs'],
  ['preact/hooks', 'preact/hooks/dist/hooks.mjs'],
])
const types = new Map([
  ['css', 'text/css; charset=utf-8'],
  ['js', 'text/javascript; charset=utf-8'],
  ['svg', 'image/svg+xml'],
])

/** Every asset by its path. From source the modules' types are stripped, from dist they are gone. */
export async function loadAssets(): Promise<ReadonlyMap<string, Asset>> {
  const assets = new Map<string, Asset>()
  const add = (path: string, text: string): void => {
    const body = Buffer.from(text)
    const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`
    const type = types.get(path.split('.').at(-1) ?? '') ?? 'application/octet-stream'
    assets.set(path, { type, body, gzipped: gzipSync(body, { level: 9 }), etag })
  }
  for (const name of ['console.css', 'icon.svg']) {
    add(`/assets/${name}`, readFileSync(new URL(`static/${name}`, import.meta.url), 'utf8'))
  }
  for (const name of modules) add(`/assets/${name}.js`, withAddresses(await moduleText(name)))
  // As the packages are installed, wherever that is.
  const { resolve } = createRequire(import.meta.url)
  const root = new URL('../', `file://${resolve('preact')}`)
  for (const [name, path] of libraries) {
    const text = readFileSync(new URL(path.replace('preact/', ''), root), 'utf8')
    add(addressOf(name), withAddresses(text.replace(/\n\/\/# sourceMappingURL=.*/, '')))
  }
  return assets
}

async function moduleText(name: string): Promise<string> {
  const compiled = new URL(`browser/${name}.js`, import.meta.url)
  if (existsSync(compiled)) {
    return readFileSync(compiled, 'utf8').replace(/\n\/\/# sourceMappingURL=.*/, '')
  }
  // Run from source (tests, development), where the compiler is installed.
  const { default: ts } = await import('typescript')
  const text = readFileSync(new URL(`browser/${name}.ts`, import.meta.url), 'utf8')
  return ts.transpileModule(text, {
    compilerOptions: {
      module: ts.ModuleKind.ESNext,
      target: ts.ScriptTarget.ES2022,
      verbatimModuleSyntax: true,
      rewriteRelativeImportExtensions: true,
    },
  }).outputText
}

function addressOf(library: string): string {
  return `/assets/lib/${library.replace('/', '-')}.js`
}

/** `from "preact"` → `from "/assets/lib/preact.js"`. */
function withAddresses(text: string): string {
  return text.replace(
    /(\bfrom\s*)(["'])(preact(?:\/hooks)?)\2/g,
    (_all, from: string, _quote: string, name: string) => `${from}"${addressOf(name)}"`,
  )
}
