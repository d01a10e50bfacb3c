import { describe, expect, test } from 'vitest'
import { searchedSchemas, splitIdentifiers } from '../../../src/sql/sql.ts'

describe('a search_path as the server splits it', () => {
  test.each([
    ['', []],
    ['"$user", public', ['$user', 'public']],
    ['  A ,\tb\n', ['a', 'b']],
    ['"A b","c""d"', ['A b', 'c"d']],
    ['a"b, public', ['a"b', 'public']],
    // No letters but those of ASCII are folded, and no spaces but those of ASCII separate.
    ['\u212A, É', ['\u212A', 'É']],
    ['\u00A0a', ['\u00A0a']],
    [`${'x'.repeat(70)}, "${'é'.repeat(40)}"`, ['x'.repeat(63), 'é'.repeat(31)]],
  ])('%j', (text, names) => {
    expect(splitIdentifiers(text)).toEqual(names)
  })

  test.each(['a b', 'a,', ',a', '"a', '"a"b', 'a,,b'])('%j is none', (text) => {
    expect(splitIdentifiers(text)).toBeNull()
    expect(searchedSchemas(splitIdentifiers(text), 'app', null)).toBe('unknown')
  })
})

describe('the schemas that are searched', () => {
  test('pg_temp and pg_catalog come first where they are not named', () => {
    expect(searchedSchemas(['a'], 'app', null)).toEqual(['pg_catalog', 'a'])
    expect(searchedSchemas(['a'], 'app', 'pg_temp_3')).toEqual(['pg_temp_3', 'pg_catalog', 'a'])
    const named = searchedSchemas(['a', 'pg_temp', 'pg_catalog'], 'app', 'pg_temp_3')
    expect(named).toEqual(['a', 'pg_temp_3', 'pg_catalog'])
    expect(searchedSchemas(['a', 'pg_temp'], 'app', null)).toEqual(['pg_catalog', 'a'])
  })

  test('$user is who runs it', () => {
    expect(searchedSchemas(['$user', 'a'], 'app', null)).toEqual(['pg_catalog', '', 'app', 'a'])
    expect(searchedSchemas(['$user'], null, null)).toBe('unknown')
  })
})
