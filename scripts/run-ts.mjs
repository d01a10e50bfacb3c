// Runs a TypeScript file of this repository (a bench, a fuzzer) without building it:
//   node scripts/run-ts.mjs bench/micro/wire.bench.ts [arguments]
// Node 20 strips no types, so imports of *.ts go through the compiler's own transpiler.
import { pathToFileURL } from 'node:url'
import { register } from 'node:module'

const loader = `
import { readFile } from 'node:fs/promises'
import ts from ${JSON.stringify(import.meta.resolve('typescript'))}
export async function load(url, context, next) {
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return next(url, context)
  const text = await readFile(new URL(url), 'utf8')
  const { outputText } = ts.transpileModule(text, {
    fileName: url,
    compilerOptions: {
      module: ts.ModuleKind.ESNext,
      target: ts.ScriptTarget.ES2023,
      verbatimModuleSyntax: true,
      inlineSourceMap: true,
    },
  })
  return { format: 'module', source: outputText, shortCircuit: true }
}
`
register(`data:text/javascript,${encodeURIComponent(loader)}`, import.meta.url)

const [file, ...rest] = process.argv.slice(2)
if (file === undefined) {
  console.error('usage: node scripts/run-ts.mjs file.ts [arguments]')
  process.exit(2)
}
process.argv.splice(1, process.argv.length, file, ...rest)
await import(pathToFileURL(file).href)
