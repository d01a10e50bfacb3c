// Type-aware linting. Formatting is prettier's business, layers and sizes are test/tidy's.
import globals from 'globals'
import tseslint from 'typescript-eslint'
import { growingClone } from './scripts/growing-clone.js'

const hotFolders = [
  'audit',
  'core',
  'gate',
  'identity',
  'masking',
  'policy',
  'server',
  'session',
  'sql',
  'upstream',
  'wire',
]

const forbidden = [
  { selector: 'ExportDefaultDeclaration', message: 'No default exports.' },
  { selector: 'ExportAllDeclaration[exportKind!="type"]', message: 'Name every re-export.' },
  { selector: 'TSEnumDeclaration', message: 'Use a union of string literals.' },
  { selector: 'ThrowStatement > Literal', message: 'Throw an Error.' },
]

export default tseslint.config(
  { ignores: ['dist/', 'coverage/', 'node_modules/', '.cache/', 'src/console/assets/'] },
  {
    files: ['**/*.ts'],
    extends: [...tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
      globals: globals.node,
    },
    rules: {
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-import-type-side-effects': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      // Offsets and states are compared where types alone say "always": wire data is foreign.
      '@typescript-eslint/no-unnecessary-condition': 'off',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_', caughtErrors: 'none' },
      ],
      // PostgreSQL counts characters as code points, and so does the spread of a string.
      '@typescript-eslint/no-misused-spread': ['error', { allow: ['string'] }],
      '@typescript-eslint/require-await': 'off',
      eqeqeq: 'error',
      'no-console': 'error',
      'no-restricted-syntax': ['error', ...forbidden],
    },
  },
  {
    // What runs for every login or statement.
    files: hotFolders.map((folder) => `src/${folder}/**`),
    plugins: { regate: { rules: { 'growing-clone': growingClone } } },
    rules: {
      'regate/growing-clone': 'error',
      'no-restricted-syntax': [
        'error',
        ...forbidden,
        {
          selector:
            'AssignmentExpression[left.type=MemberExpression][right.type=/^(Arrow)?FunctionExpression$/]',
          message:
            'V8 puts such a closure among the old, where it keeps all it sees: make it a const first.',
        },
      ],
    },
  },
  {
    // Commands speak to a person: stdout is theirs. Benches print their figures.
    files: ['src/commands/**', 'src/main.ts', 'bench/**', 'scripts/**', 'test/**'],
    rules: { 'no-console': 'off' },
  },
  {
    files: ['test/**', 'bench/**', 'scripts/**', '*.ts'],
    rules: {
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/unbound-method': 'off',
      'no-restricted-syntax': 'off',
    },
  },
)
