// Writes docs/regate.schema.json and docs/configuration.md from the configuration's schema. Writes
// only what has changed; a package that is installed read-only keeps what it came with.
import { readFileSync, writeFileSync } from 'node:fs'
import { configurationJsonSchema } from '../dist/config/config.js'
import { withLimitTexts } from './limit-texts.mjs'

const schema = withLimitTexts(configurationJsonSchema())

function write(path, text) {
  let before = ''
  try {
    before = readFileSync(path, 'utf8')
  } catch {
    // Not there yet: written below.
  }
  if (before === text) return
  try {
    writeFileSync(path, text)
  } catch (error) {
    console.error(`${path} is left as it is: ${error.message}`)
  }
}

function typeOf(node) {
  const branches = node.anyOf ?? node.oneOf
  if (branches !== undefined) return [...new Set(branches.map(typeOf))].join(' or ')
  if (node.const !== undefined) return `\`${node.const}\``
  if (node.enum !== undefined) return node.enum.map((value) => `\`${value}\``).join(', ')
  if (node.type === 'array') return `list of ${typeOf(node.items)}`
  if (node.pattern?.includes('(ms|s|m|h|d)')) return 'duration'
  if (node.pattern?.includes('MB|GB')) return 'size'
  if (node.type === 'integer') return 'whole number'
  if (node.type === 'object') return 'map'
  return node.format === 'uri' ? 'URL' : node.type === 'string' ? 'text' : node.type
}

function cell(text) {
  return String(text ?? '')
    .replaceAll('|', '\\|')
    .replaceAll('\n', ' ')
}

const rows = []
function visit(node, key, required) {
  const branches = node.anyOf ?? node.oneOf
  const shown =
    node.default === undefined || typeof node.default === 'object'
      ? ''
      : `\`${JSON.stringify(node.default)}\``
  if (key !== '' && !/\[\]$/.test(key)) {
    rows.push([key, typeOf(node), required ? 'required' : shown, node.description])
  }
  for (const branch of branches ?? [node]) {
    if (branch.type === 'array') {
      for (const item of branch.items.oneOf ?? [branch.items]) {
        const name = item.properties?.method?.const ?? item.properties?.kind?.const
        if (item.type === 'object') visit(item, `${key}[${name ?? ''}]`, false)
      }
    }
    for (const [name, child] of Object.entries(branch.properties ?? {})) {
      visit(child, key === '' ? name : `${key}.${name}`, branch.required?.includes(name))
    }
    if (
      typeof branch.additionalProperties === 'object' &&
      branch.additionalProperties.type === 'object'
    ) {
      visit(branch.additionalProperties, `${key}.<name>`, false)
    }
  }
}
visit(schema, '', false)

const sections = new Map()
for (const row of rows) {
  const name = row[0].split(/[.[]/)[0]
  if (!sections.has(name)) sections.set(name, [])
  sections.get(name).push(row)
}

let text = `# Configuration

\`regate serve --config regate.yaml\`. This page is generated from the schema that checks the file (\`docs/regate.schema.json\`):
give the schema to your editor with a first line \`# yaml-language-server: $schema=./node_modules/regate/docs/regate.schema.json\`.

- Unknown keys are errors. \`regate serve --check\` reports all errors at once, each with its line and what to do.
- Secrets are never in this file. Where one is needed, one of three keys names its source: \`x_env\` (a variable), \`x_file\` (a file, read again when it changes),
  \`x_command\` (a command's first line of output).
- Paths are relative to the file's own directory. A duration is a number and \`ms\`, \`s\`, \`m\`, \`h\` or \`d\`; a size is a number and \`kB\`, \`MB\` or \`GB\` (1024).
- SIGHUP reads the file again: see [getting started](getting-started.md).
`
for (const [name, entries] of sections) {
  text += `\n## ${name}\n\n| key | value | default | what it is |\n| --- | --- | --- | --- |\n`
  for (const row of entries)
    text += `| ${row.map((part, index) => (index === 0 ? `\`${part}\`` : cell(part))).join(' | ')} |\n`
}

write('docs/regate.schema.json', `${JSON.stringify(schema, null, 2)}\n`)
write('docs/configuration.md', text)
