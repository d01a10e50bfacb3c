package regate.masking_test

import data.regate.inputs_test as inputs

decide(names, kind, access) := result if {
	result := inputs.judge(inputs.statement(names, kind, access), inputs.groups, inputs.columns)
}

output(name, via) := {"index": 0, "name": "x", "sources": [object.union({"column": concat(".", ["public", "users", name])}, via)]}

direct := {"via": "direct"}

test_a_classified_output_is_masked if {
	masked := decide(["agents"], "select", object.union(inputs.reading([inputs.column("ssn", ["output"])]), {"outputs": [output("ssn", direct)]}))
	masked.action == "mask"
	masked.masks == {"public.users.ssn": {"kind": "redact"}}
}

test_a_class_one_may_unmask_is_clear if {
	clear := decide(["engineers"], "select", inputs.reading([inputs.column("email", ["output"])]))
	clear.action == "allow"
}

test_one_group_that_unmasks_is_enough if {
	clear := decide(["agents", "engineers"], "select", inputs.reading([inputs.column("email", ["output"])]))
	clear.action == "allow"
}

test_other_classes_stay_masked if {
	decide(["engineers"], "select", inputs.reading([inputs.column("ssn", ["output"])])).action == "mask"
}

test_a_source_that_the_columns_do_not_list_is_masked_all_the_same if {
	decide(["agents"], "select", {"outputs": [output("ssn", direct)]}).masks["public.users.ssn"]
}

test_a_column_without_a_mask_is_redacted if {
	result := inputs.judge(inputs.statement(["agents"], "select", inputs.reading([inputs.column("ssn", ["output"])])), inputs.groups, {"public.users.ssn": {"class": "pii"}})
	result.masks["public.users.ssn"] == {"kind": "redact"}
}

test_a_column_without_a_class_is_masked_for_all_but_those_who_see_everything if {
	classless := {"public.users.ssn": {"mask": {"kind": "null"}}}
	asked := inputs.reading([inputs.column("ssn", ["output"])])
	masked := inputs.judge(inputs.statement(["engineers"], "select", asked), inputs.groups, classless)
	masked.action == "mask"
	clear := inputs.judge(inputs.statement(["admins"], "select", asked), inputs.groups, classless)
	clear.action == "allow"
}

test_masked_columns_are_for_output_only if {
	every use in ["filter", "join", "group", "having", "order", "distinct", "window", "set_operation", "limit", "condition", "cardinality", "argument", "something_new"] {
		denied := decide(["agents"], "select", inputs.reading([inputs.column("ssn", ["output", use])]))
		denied.action == "deny"
		denied.rule == "regate.masking.inference"
	}
}

test_the_hint_says_what_works_instead if {
	denied := decide(["agents"], "select", inputs.reading([inputs.column("ssn", ["filter"])]))
	contains(denied.hint, "count(*)")
	contains(denied.hint, "ssn may not appear in WHERE")
}

test_who_may_infer_may_filter if {
	result := inputs.judge(inputs.statement(["analysts"], "select", inputs.reading([inputs.column("ssn", ["filter"])])), {"analysts": {"read": ["*"], "unmask": [], "infer": true}}, inputs.columns)
	result.action == "mask"
}

test_total_derivations_pass if {
	access := object.union(inputs.reading([inputs.column("ssn", ["output"])]), {"outputs": [output("ssn", {"via": "derived", "total": true})]})
	decide(["agents"], "select", access).action == "mask"
}

test_other_derivations_do_not if {
	every via in [{"via": "derived", "total": false}, {"via": "derived"}, {"via": "something_new"}] {
		access := object.union(inputs.reading([inputs.column("ssn", ["output"])]), {"outputs": [output("ssn", via)]})
		decide(["agents"], "select", access).rule == "regate.masking.derivation"
	}
}

test_counting_is_fine if {
	access := object.union(inputs.reading([inputs.column("ssn", ["output"])]), {"outputs": [output("ssn", {"via": "count"})]})
	decide(["agents"], "select", access).action == "mask"
}

test_masked_values_do_not_flow if {
	access := {
		"effects": ["read", "write"],
		"relations": [inputs.relation("scratch", ["insert"]), inputs.relation("users", ["select"])],
		"flows": [{"from": "public.users.ssn", "to": "public.scratch.a", "via": "direct"}],
	}
	decide(["agents"], "insert", access).rule == "regate.masking.flow"
	decide(["admins"], "insert", access).action == "allow"
}

test_masked_columns_are_not_written if {
	groups := {"writers": {"read": ["*"], "write": ["*"], "unmask": []}}
	asked := inputs.statement(["writers"], "insert", {
		"effects": ["write"], "relations": [inputs.relation("users", ["insert"])],
		"columns": [inputs.column("ssn", ["assign"])],
	})
	denied := inputs.judge(asked, groups, inputs.columns)
	denied.rule == "regate.masking.write"
	trusted := inputs.judge(asked, {"writers": object.union(groups.writers, {"write_masked": ["pii"]})}, inputs.columns)
	trusted.action == "mask"
}

test_masked_columns_are_not_written_through_a_view_or_in_a_partition if {
	groups := {"writers": {"read": ["*"], "write": ["*"], "unmask": []}}
	every through in ["view", "partition"] {
		asked := inputs.statement(["writers"], "update", {
			"effects": ["write"], "relations": [inputs.relation("gn", ["update"])],
			"columns": [object.union(inputs.column("ssn", ["assign"]), {"through": through})],
		})
		denied := inputs.judge(asked, groups, inputs.columns)
		denied.rule == "regate.masking.write"
	}
}

test_a_column_may_flow_into_itself if {
	access := {
		"effects": ["read", "write"],
		"relations": [inputs.relation("scratch", ["update"])], "filtered": true,
		"flows": [{"from": "public.users.ssn", "to": "public.users.ssn", "via": "direct"}],
	}
	decide(["agents"], "update", access).action == "mask"
}

test_a_column_in_sight_masks_the_texts_alone if {
	access := {
		"effects": ["write"], "relations": [inputs.relation("scratch", ["update"])], "filtered": true,
		"columns": [inputs.column("ssn", [])],
	}
	result := decide(["agents"], "update", access)
	result.action == "mask"
	result.masks["public.users.ssn"].kind == "redact"
}

test_classified_columns_are_not_renamed_without_infer if {
	groups := {"migrators": {"read": ["*"], "write": ["*"], "ddl": "allow", "unmask": ["*"]}}
	asked := inputs.statement(["migrators"], "rename", {
		"effects": ["ddl"], "relations": [inputs.relation("users", ["alter"])],
		"columns": [inputs.column("ssn", [])],
	})
	denied := inputs.judge(asked, groups, inputs.columns)
	denied.rule == "regate.masking.rename"
}

test_masks_stand_beside_an_approval if {
	access := {
		"effects": ["read", "write"], "filtered": true,
		"relations": [inputs.relation("users", ["update", "select"])],
		"columns": [inputs.column("ssn", ["returning"])],
	}
	held := decide(["engineers"], "update", access)
	held.action == "approve"
	held.masks["public.users.ssn"]
}
