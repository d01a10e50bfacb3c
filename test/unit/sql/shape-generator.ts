/**
 * Random statements, and random relatives of them, for the property test of shapes. Seeded: a failure
 * names its seed. Statements are lists of tokens, so that a relative can differ in one of them.
 */

export type Random = () => number

/** mulberry32. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

const names = [
  'a',
  'b',
  'c',
  't',
  'u',
  '"q Q"',
  'é',
  'x1',
  'a$1',
  'set',
  'values',
  'value',
  'names',
  'date',
  'between',
  'v.a',
  't.where',
  's.t',
  'e',
  'n',
] as const
const functions = [
  'f',
  'lower',
  'nextval',
  'set_config',
  'count',
  'coalesce',
  's.f',
  'greatest',
  'jsonb_path_query',
  'query_to_xml',
] as const
const types = [
  'int',
  'text',
  'numeric(5,2)',
  'varchar(3)',
  'jsonb',
  'timestamp(3)',
  'char',
  'double precision',
  'int[]',
  'bool',
  'interval',
  'uuid',
] as const
const comparisons = ['=', '<', '>', '<=', '>=', '<>', '!='] as const
const operators = [
  '+',
  '-',
  '*',
  '/',
  '%',
  '||',
  '->',
  '->>',
  '#>',
  '#>>',
  '@>',
  '<@',
  '&&',
  '?',
  '~',
  '!~',
  '^',
  '@-',
  '=-',
  '<->',
  '|/',
] as const
const numbers = [
  '0',
  '1',
  '2',
  '7',
  '007',
  '10',
  '42',
  '2147483647',
  '2147483648',
  '2147483649',
  '99999999999',
  '9223372036854775807',
  '9223372036854775808',
  '12345678901234567890',
  '1.5',
  '.5',
  '5.',
  '1e3',
  '1E-2',
  '2.5e+3',
  '1_000',
  '0x1F',
  '0b11',
  '0o7',
] as const
const strings = [
  "''",
  "'a'",
  "'it''s'",
  "'--'",
  "'/*'",
  "'$$'",
  "'role'",
  "'users'",
  "'{a,b}'",
  "'$.a'",
  "'é'",
  "'\\'",
  "E'a\\'b'",
  "E'\\n'",
  '$$x$$',
  "$t$a'b$t$",
  "U&'\\0061'",
  "B'01'",
  "X'1F'",
  "N'n'",
  "'t'",
] as const
const gaps = [
  '',
  ' ',
  '  ',
  '\n',
  '\t',
  ' /* c */ ',
  "/* a /* b */ ' */",
  ' -- x\n',
  '\r\n',
] as const

export class StatementGenerator {
  readonly #random: Random
  #tokens: string[] = []
  #budget = 0

  constructor(random: Random) {
    this.#random = random
  }

  /** The tokens of one statement. Most parse. */
  statement(): string[] {
    this.#tokens = []
    this.#budget = 10 + Math.floor(this.#random() * 60)
    this.#oneOf([
      () => this.#query(),
      () => this.#query(),
      () => this.#insert(),
      () => this.#update(),
      () => this.#delete(),
      () => this.#merge(),
    ])
    return this.#tokens
  }

  /** A relative: constants changed, sometimes another token, and other white space. */
  relative(tokens: readonly string[]): string[] {
    const result = [...tokens]
    const changes = this.#random() < 0.7 ? 1 : 1 + Math.floor(this.#random() * 4)
    for (let i = 0; i < changes; i++) {
      const at = Math.floor(this.#random() * result.length)
      const constants = result.flatMap((token, index) => (isConstant(token) ? [index] : []))
      const chosen = constants[Math.floor(this.#random() * constants.length)]
      if (this.#random() < 0.9 && chosen !== undefined) {
        result[chosen] =
          this.#random() < 0.8 ? this.#like(result[chosen] as string) : this.#constant()
      } else if (this.#random() < 0.3) result.splice(at, 1)
      else if (this.#random() < 0.3) result.splice(at, 0, this.#anyToken())
      else result[at] = this.#anyToken()
    }
    return result
  }

  /** The text, with or without random white space and comments. */
  text(tokens: readonly string[]): string {
    if (this.#random() < 0.6) return tokens.join(' ')
    return tokens.map((token) => token + this.#pick(gaps)).join('')
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)] as T
  }

  #oneOf(choices: readonly (() => void)[]): void {
    this.#pick(choices)()
  }

  #chance(probability: number): boolean {
    return this.#random() < probability
  }

  #add(...tokens: string[]): void {
    this.#tokens.push(...tokens)
    this.#budget -= tokens.length
  }

  #constant(): string {
    return this.#chance(0.5) ? this.#pick(numbers) : this.#pick(strings)
  }

  /** Another constant of the same kind of token. */
  #like(token: string): string {
    if (/^[0-9]+$/.test(token)) return String(Math.floor(this.#random() * 3000))
    if (/^[0-9.]/.test(token)) return this.#pick(numbers)
    return token.startsWith("'") ? `'${this.#pick(names)}'` : this.#pick(strings)
  }

  #anyToken(): string {
    return this.#pick([...names, ...comparisons, ...operators, ...numbers, ...strings, ...anyWords])
  }

  #list(item: () => void, most = 3): void {
    item()
    for (let i = 1; i < most && this.#chance(0.5); i++) {
      this.#add(',')
      item()
    }
  }

  #query(): void {
    if (this.#chance(0.1)) {
      this.#add('WITH', 'w', 'AS', ...(this.#chance(0.3) ? ['MATERIALIZED'] : []), '(')
      this.#query()
      this.#add(')')
    }
    this.#select()
    if (this.#budget > 0 && this.#chance(0.15)) {
      this.#add(this.#pick(['UNION', 'EXCEPT', 'INTERSECT']), ...(this.#chance(0.3) ? ['ALL'] : []))
      if (this.#chance(0.3)) {
        this.#add('(')
        this.#select()
        this.#add(')')
      } else this.#select()
    }
    if (this.#chance(0.3)) {
      this.#add('ORDER', 'BY')
      this.#list(() => {
        this.#expression()
        if (this.#chance(0.3)) this.#add('DESC')
      })
    }
    if (this.#chance(0.3)) {
      this.#add('LIMIT')
      this.#expression()
    }
    if (this.#chance(0.1)) this.#add('OFFSET', this.#pick(numbers))
    if (this.#chance(0.05)) this.#add('FETCH', 'FIRST', '3', 'ROWS', 'ONLY')
    if (this.#chance(0.05)) this.#add('FOR', 'UPDATE')
  }

  #select(): void {
    if (this.#chance(0.1)) {
      this.#add('VALUES')
      this.#list(() => this.#row())
      return
    }
    this.#add('SELECT')
    if (this.#chance(0.1)) {
      this.#add('DISTINCT')
      if (this.#chance(0.6)) {
        this.#add('ON', '(')
        this.#list(() => this.#expression())
        this.#add(')')
      }
    }
    this.#list(() => {
      this.#expression()
      if (this.#chance(0.2))
        this.#add('AS', this.#pick(['x', 'where', 'on', 'set', 'having', 'in']))
    })
    if (this.#chance(0.85)) {
      this.#add('FROM')
      this.#list(() => this.#fromItem(), 2)
    }
    if (this.#chance(0.7)) this.#where()
    if (this.#chance(0.2)) {
      this.#add('GROUP', 'BY')
      this.#list(() => this.#expression())
      if (this.#chance(0.5)) {
        this.#add('HAVING')
        this.#condition()
      }
    }
  }

  #fromItem(): void {
    this.#oneOf([
      () => this.#add(this.#pick(['t', 's.t', '"q Q"', 't AS v', 't v', 'ONLY t'])),
      () => this.#add(this.#pick(['t', 's.t', '"q Q"', 't AS v', 't v', 'ONLY t'])),
      () => {
        this.#add('t', 'JOIN', 'u', 'ON')
        this.#condition()
      },
      () => this.#add('t', 'JOIN', 'u', 'USING', '(', 'a', ')'),
      () => {
        this.#add('(')
        this.#query()
        this.#add(')', 'v')
      },
      () => {
        this.#add('f', '(')
        this.#list(() => this.#expression())
        this.#add(')', 'AS', 'g', '(', 'a', ')')
      },
      () => this.#add('t', 'TABLESAMPLE', 'system', '(', '10', ')', 'REPEATABLE', '(', '5', ')'),
    ])
  }

  #where(): void {
    this.#add('WHERE')
    this.#condition()
  }

  #condition(): void {
    this.#predicate()
    while (this.#budget > 0 && this.#chance(0.4)) {
      this.#add(this.#pick(['AND', 'AND', 'OR']))
      if (this.#chance(0.1)) this.#add('NOT')
      this.#predicate()
    }
  }

  #predicate(): void {
    this.#oneOf([
      () => this.#comparison(),
      () => this.#comparison(),
      () => this.#comparison(),
      () => this.#inList(),
      () => {
        this.#expression()
        this.#add(...(this.#chance(0.3) ? ['NOT'] : []), 'BETWEEN')
        this.#operand()
        this.#add('AND')
        this.#operand()
      },
      () => {
        this.#expression()
        this.#add(this.#pick(['LIKE', 'ILIKE', 'SIMILAR TO']), this.#pick(strings))
      },
      () => {
        this.#add('(')
        this.#condition()
        this.#add(')')
      },
      () => {
        this.#add(...(this.#chance(0.3) ? ['NOT'] : []), 'EXISTS', '(')
        this.#query()
        this.#add(')')
      },
      () => this.#add(this.#pick(['true', 'false', "'t'", 'a IS NULL', 'a IS NOT TRUE'])),
      () => {
        this.#operand()
        this.#add('IS', ...(this.#chance(0.5) ? ['NOT'] : []), 'DISTINCT', 'FROM')
        this.#operand()
      },
    ])
  }

  #comparison(): void {
    if (this.#chance(0.6)) {
      this.#add(this.#pick(names), this.#pick(comparisons), this.#constant())
      return
    }
    this.#expression()
    this.#add(this.#pick(comparisons))
    this.#expression()
  }

  #inList(): void {
    if (this.#chance(0.5)) {
      this.#add(this.#pick(names), 'IN', '(')
      this.#list(() => this.#add(this.#constant()), 5)
      this.#add(')')
      return
    }
    this.#expression()
    if (this.#chance(0.3)) {
      this.#add(this.#pick(comparisons), this.#pick(['ANY', 'ALL', 'SOME']), '(')
      if (this.#chance(0.5)) {
        this.#add('ARRAY', '[')
        this.#list(() => this.#operand())
        this.#add(']')
      } else this.#add(this.#constant())
      this.#add(')')
      return
    }
    this.#add(...(this.#chance(0.3) ? ['NOT'] : []), 'IN', '(')
    if (this.#chance(0.15)) this.#query()
    else this.#list(() => this.#expression(), 5)
    this.#add(')')
  }

  #expression(): void {
    this.#operand()
    while (this.#budget > 0 && this.#chance(0.2)) {
      this.#add(this.#pick(operators))
      this.#operand()
    }
  }

  #operand(): void {
    if (this.#chance(0.1)) this.#add(this.#pick(['-', '+', '-', '@']))
    if (this.#budget <= 0 || this.#chance(0.7))
      this.#add(this.#chance(0.5) ? this.#pick(names) : this.#constant())
    else this.#compound()
    if (this.#chance(0.1)) this.#add('::', this.#pick(types))
    if (this.#chance(0.03)) this.#add('COLLATE', '"C"')
    if (this.#chance(0.03)) this.#add('AT TIME ZONE', this.#pick(strings))
  }

  #compound(): void {
    this.#oneOf([
      () => this.#call(),
      () => this.#call(),
      () => {
        this.#add('(')
        this.#expression()
        this.#add(')')
      },
      () => {
        this.#add('(')
        this.#query()
        this.#add(')')
      },
      () => {
        this.#add('CASE', 'WHEN')
        this.#condition()
        this.#add('THEN')
        this.#expression()
        this.#add('ELSE')
        this.#expression()
        this.#add('END')
      },
      () => {
        this.#add('ARRAY', '[')
        this.#list(() => this.#expression())
        this.#add(']')
      },
      () => {
        this.#add('CAST', '(')
        this.#expression()
        this.#add('AS', this.#pick(types), ')')
      },
      () =>
        this.#add(
          this.#pick(['date', 'interval', 'timestamp', 'regclass', 's.ty']),
          this.#pick(strings),
        ),
      () => {
        this.#add('a', '[')
        this.#expression()
        this.#add(']')
      },
      () => {
        this.#add('ROW', '(')
        this.#list(() => this.#expression())
        this.#add(')')
      },
      () => this.#add(this.#pick(['$1', '$2', 'current_date', 'NULL', 'TRUE', 'DEFAULT'])),
      () => this.#add('extract', '(', 'year', 'FROM', 'a', ')'),
    ])
  }

  #call(): void {
    this.#add(this.#pick(functions), '(')
    if (this.#chance(0.9)) this.#list(() => this.#expression())
    if (this.#chance(0.1)) this.#add('ORDER', 'BY', '1')
    this.#add(')')
    if (this.#chance(0.1)) {
      this.#add('FILTER', '(')
      this.#where()
      this.#add(')')
    }
    if (this.#chance(0.1)) this.#add('OVER', '(', 'ORDER', 'BY', 'a', 'ROWS', '5', 'PRECEDING', ')')
  }

  #row(): void {
    this.#add('(')
    this.#list(() => (this.#chance(0.5) ? this.#add(this.#constant()) : this.#expression()), 4)
    this.#add(')')
  }

  #insert(): void {
    this.#add('INSERT', 'INTO', 't')
    if (this.#chance(0.5)) this.#add('(', 'a', ',', 'b', ')')
    if (this.#chance(0.8)) {
      this.#add('VALUES')
      this.#list(() => this.#row())
    } else this.#query()
    if (this.#chance(0.2)) {
      this.#add('ON', 'CONFLICT', '(', 'a', ')', 'DO', 'UPDATE', 'SET')
      this.#list(() => this.#assignment())
      if (this.#chance(0.4)) this.#where()
    }
    this.#returning()
  }

  #assignment(): void {
    if (this.#chance(0.8)) {
      this.#add(this.#pick(['a', 'b', '"q Q"', 'set', 'values']), '=')
      if (this.#chance(0.5)) this.#add(this.#constant())
      else this.#expression()
    } else {
      this.#add('(', 'a', ',', 'b', ')', '=', '(')
      this.#expression()
      this.#add(',')
      this.#expression()
      this.#add(')')
    }
  }

  #update(): void {
    this.#add('UPDATE', this.#pick(['t', 's.t', 't AS v']), 'SET')
    this.#list(() => this.#assignment())
    if (this.#chance(0.2)) this.#add('FROM', 'u')
    if (this.#chance(0.8)) this.#where()
    this.#returning()
  }

  #delete(): void {
    this.#add('DELETE', 'FROM', 't')
    if (this.#chance(0.2)) this.#add('USING', 'u')
    if (this.#chance(0.8)) this.#where()
    this.#returning()
  }

  #merge(): void {
    this.#add('MERGE', 'INTO', 't', 'USING', 'u', 'ON')
    this.#condition()
    this.#add(
      'WHEN',
      'MATCHED',
      ...(this.#chance(0.5) ? ['AND', 'a', '=', '5'] : []),
      'THEN',
      'UPDATE',
      'SET',
    )
    this.#list(() => this.#assignment())
    this.#add('WHEN', 'NOT', 'MATCHED', 'THEN', 'INSERT', 'VALUES')
    this.#row()
  }

  #returning(): void {
    if (!this.#chance(0.2)) return
    this.#add('RETURNING')
    this.#list(() => this.#expression())
  }
}

const anyWords = [
  '(',
  ')',
  '[',
  ']',
  ',',
  ';',
  '.',
  '::',
  ':',
  'AND',
  'OR',
  'NOT',
  'IN',
  'AS',
  'ON',
  'WHERE',
  'SET',
  'VALUES',
  'FROM',
  'ORDER',
  'BY',
  'LIMIT',
  'GROUP',
  'SELECT',
  'DISTINCT',
  'BETWEEN',
  'CASE',
  'ARRAY',
  'ANY',
  'UNION',
  'HAVING',
  'RETURNING',
  'FOR',
  'WINDOW',
  'TRUE',
  'NULL',
] as const

function isConstant(token: string): boolean {
  return /^[0-9.]*[0-9]|^[EBXNU]?&?'|^\$[a-z]*\$/.test(token)
}
