/**
 * Utility statements by node: which effect they have and which pass analyses them. The table names
 * every statement of the grammar; a test holds it against libpg_query's own list.
 *
 * Invariant: a statement that the table does not name is incomplete.
 */
import type { Node } from '@pgsql/types'
import type { Effect } from './access.ts'
import { tagOf, type Context, type QueryShape } from './analysis-context.ts'
import { alterTable, rename, setSchema } from './utility-alter.ts'
import { call, copy, doBlock, explain } from './utility-nested.ts'
import {
  createFunction,
  createIndex,
  createPolicy,
  createRule,
  createStatistics,
  createTable,
  createTableAs,
  createTrigger,
  createView,
  refresh,
} from './utility-create.ts'
import {
  cluster,
  comment,
  createSchema,
  drop,
  grant,
  lock,
  changeRole,
  otherObject,
  reindex,
  truncate,
  vacuum,
} from './utility-objects.ts'
import {
  closePortal,
  deallocate,
  declareCursor,
  discard,
  execute,
  fetch,
  prepare,
  settingStatement,
  setVariable,
  showVariable,
  transaction,
} from './utility-session.ts'

type Pass = (node: Node, context: Context) => QueryShape | null

interface Entry {
  readonly effects: readonly Effect[]
  /** Null where the effects say everything. */
  readonly pass: Pass | null
}

function entry(effects: readonly Effect[], pass: Pass | null = null): Entry {
  return { effects, pass }
}

const ddl = entry(['ddl'], otherObject)
const dcl = entry(['dcl'], otherObject)
const role = entry(['dcl'], changeRole)

/** Every statement node but SELECT, INSERT, UPDATE, DELETE and MERGE. */
export const utilityTable: Readonly<Record<string, Entry>> = {
  AlterCollationStmt: ddl,
  AlterDatabaseRefreshCollStmt: ddl,
  AlterDatabaseSetStmt: entry(['ddl', 'dcl'], settingStatement),
  AlterDatabaseStmt: ddl,
  AlterDefaultPrivilegesStmt: dcl,
  AlterDomainStmt: ddl,
  AlterEnumStmt: ddl,
  AlterEventTrigStmt: ddl,
  AlterExtensionContentsStmt: ddl,
  AlterExtensionStmt: ddl,
  AlterFdwStmt: ddl,
  AlterForeignServerStmt: ddl,
  AlterFunctionStmt: ddl,
  AlterObjectDependsStmt: ddl,
  AlterObjectSchemaStmt: entry(['ddl'], setSchema),
  AlterOpFamilyStmt: ddl,
  AlterOperatorStmt: ddl,
  AlterOwnerStmt: entry(['ddl', 'dcl'], otherObject),
  AlterPolicyStmt: entry(['ddl', 'dcl'], createPolicy),
  AlterPublicationStmt: ddl,
  AlterRoleSetStmt: entry(['dcl'], settingStatement),
  AlterRoleStmt: role,
  AlterSeqStmt: ddl,
  AlterStatsStmt: ddl,
  AlterSubscriptionStmt: ddl,
  AlterSystemStmt: entry(['maintenance'], settingStatement),
  AlterTSConfigurationStmt: ddl,
  AlterTSDictionaryStmt: ddl,
  AlterTableMoveAllStmt: ddl,
  AlterTableSpaceOptionsStmt: ddl,
  AlterTableStmt: entry(['ddl'], alterTable),
  AlterTypeStmt: ddl,
  AlterUserMappingStmt: entry(['ddl', 'dcl'], otherObject),
  CallStmt: entry(['procedure'], call),
  CheckPointStmt: entry(['maintenance']),
  ClosePortalStmt: entry(['session'], closePortal),
  ClusterStmt: entry(['maintenance'], cluster),
  CommentStmt: entry(['ddl'], comment),
  CompositeTypeStmt: ddl,
  ConstraintsSetStmt: entry(['session']),
  CopyStmt: entry([], copy),
  CreateAmStmt: ddl,
  CreateCastStmt: ddl,
  CreateConversionStmt: ddl,
  CreateDomainStmt: ddl,
  CreateEnumStmt: ddl,
  CreateEventTrigStmt: ddl,
  CreateExtensionStmt: ddl,
  CreateFdwStmt: ddl,
  CreateForeignServerStmt: ddl,
  CreateForeignTableStmt: entry(['ddl'], createTable),
  CreateFunctionStmt: entry(['ddl'], createFunction),
  CreateOpClassStmt: ddl,
  CreateOpFamilyStmt: ddl,
  CreatePLangStmt: ddl,
  CreatePolicyStmt: entry(['ddl', 'dcl'], createPolicy),
  CreatePublicationStmt: ddl,
  CreateRangeStmt: ddl,
  CreateRoleStmt: role,
  CreateSchemaStmt: entry(['ddl'], createSchema),
  CreateSeqStmt: ddl,
  CreateStatsStmt: entry(['ddl'], createStatistics),
  CreateStmt: entry(['ddl'], createTable),
  CreateSubscriptionStmt: ddl,
  CreateTableAsStmt: entry(['ddl', 'write'], createTableAs),
  CreateTableSpaceStmt: entry(['ddl', 'file'], otherObject),
  CreateTransformStmt: ddl,
  CreateTrigStmt: entry(['ddl'], createTrigger),
  CreateUserMappingStmt: entry(['ddl', 'dcl'], otherObject),
  CreatedbStmt: ddl,
  DeallocateStmt: entry(['session'], deallocate),
  DeclareCursorStmt: entry(['session'], declareCursor),
  DefineStmt: ddl,
  DiscardStmt: entry(['session'], discard),
  DoStmt: entry(['procedure'], doBlock),
  DropOwnedStmt: entry(['ddl', 'dcl'], otherObject),
  DropRoleStmt: role,
  DropStmt: entry(['ddl'], drop),
  DropSubscriptionStmt: ddl,
  DropTableSpaceStmt: ddl,
  DropUserMappingStmt: entry(['ddl', 'dcl'], otherObject),
  DropdbStmt: ddl,
  ExecuteStmt: entry(['session'], execute),
  ExplainStmt: entry(['session'], explain),
  FetchStmt: entry(['session'], fetch),
  GrantRoleStmt: role,
  GrantStmt: entry(['dcl'], grant),
  ImportForeignSchemaStmt: ddl,
  IndexStmt: entry(['ddl'], createIndex),
  ListenStmt: entry(['notify']),
  LoadStmt: entry(['file']),
  LockStmt: entry(['lock'], lock),
  NotifyStmt: entry(['notify']),
  PrepareStmt: entry(['session'], prepare),
  ReassignOwnedStmt: entry(['ddl', 'dcl'], otherObject),
  RefreshMatViewStmt: entry(['write'], refresh),
  ReindexStmt: entry(['maintenance'], reindex),
  RenameStmt: entry(['ddl'], rename),
  RuleStmt: entry(['ddl'], createRule),
  SecLabelStmt: entry(['ddl', 'dcl'], otherObject),
  TransactionStmt: entry(['transaction'], transaction),
  TruncateStmt: entry(['write'], truncate),
  UnlistenStmt: entry(['notify']),
  VacuumStmt: entry(['maintenance'], vacuum),
  VariableSetStmt: entry(['session'], setVariable),
  VariableShowStmt: entry(['session'], showVariable),
  ViewStmt: entry(['ddl'], createView),
}

/** Analyses a utility statement; its columns where it returns rows, else null. */
export function utility(node: Node, context: Context): QueryShape | null {
  const tag = tagOf(node)
  const found = Object.hasOwn(utilityTable, tag) ? utilityTable[tag] : undefined
  if (found === undefined) {
    context.recorder.fail(`${tag} is not known as a statement`)
    return { fields: [], open: true }
  }
  for (const effect of found.effects) context.recorder.effects.add(effect)
  if (found.effects.includes('ddl')) context.recorder.changesCatalog = true
  return found.pass === null ? null : found.pass(node, context)
}
