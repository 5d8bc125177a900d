package planner

import (
	pg "github.com/pganalyze/pg_query_go/v6"
)

// outputName is the name of a column of the result, as FigureColname in PostgreSQL's
// parse_target.c chooses it. It is "" for a star, and where the name follows from one.
func outputName(t *pg.ResTarget) string {
	if t.Name != "" {
		return t.Name
	}
	if isStar(&pg.Node{Node: &pg.Node_ResTarget{ResTarget: t}}) {
		return ""
	}
	name, strong := figure(t.Val)
	if name == "" && !strong {
		return "?column?"
	}
	return name
}

// figure returns an expression's name, and whether a cast or a CASE around it keeps
// that. A name that follows from a star is "" and kept.
func figure(n *pg.Node) (name string, strong bool) {
	switch {
	case n.GetColumnRef() != nil:
		for _, f := range n.GetColumnRef().Fields {
			if f.GetString_() != nil {
				name = str(f)
			}
		}
		return name, true
	case n.GetAIndirection() != nil:
		for _, f := range n.GetAIndirection().Indirection {
			if f.GetString_() != nil {
				name = str(f)
			}
		}
		if name != "" {
			return name, true
		}
		return figure(n.GetAIndirection().Arg)
	case n.GetFuncCall() != nil:
		return unqualified(n.GetFuncCall().Funcname), true
	case n.GetAExpr().GetKind() == pg.A_Expr_Kind_AEXPR_NULLIF:
		return "nullif", true
	case n.GetTypeCast() != nil:
		if name, strong = figure(n.GetTypeCast().Arg); strong {
			return name, true
		}
		if names := n.GetTypeCast().TypeName.GetNames(); len(names) > 0 {
			return unqualified(names), false
		}
		return name, false
	case n.GetCollateClause() != nil:
		return figure(n.GetCollateClause().Arg)
	case n.GetGroupingFunc() != nil:
		return "grouping", true
	case n.GetSubLink() != nil:
		switch n.GetSubLink().SubLinkType {
		case pg.SubLinkType_EXISTS_SUBLINK:
			return "exists", true
		case pg.SubLinkType_ARRAY_SUBLINK:
			return "array", true
		case pg.SubLinkType_EXPR_SUBLINK:
			sel := n.GetSubLink().Subselect.GetSelectStmt()
			for sel.GetLarg() != nil {
				sel = sel.Larg
			}
			if len(sel.GetValuesLists()) > 0 {
				return "column1", true
			}
			if t := sel.GetTargetList(); len(t) > 0 {
				return outputName(t[0].GetResTarget()), true
			}
		}
		return "", false
	case n.GetCaseExpr() != nil:
		if name, strong = figure(n.GetCaseExpr().Defresult); strong {
			return name, true
		}
		return "case", false
	case n.GetAArrayExpr() != nil:
		return "array", true
	case n.GetRowExpr() != nil:
		return "row", true
	case n.GetCoalesceExpr() != nil:
		return "coalesce", true
	case n.GetMinMaxExpr() != nil:
		if n.GetMinMaxExpr().Op == pg.MinMaxOp_IS_GREATEST {
			return "greatest", true
		}
		return "least", true
	case n.GetXmlExpr() != nil:
		name = xmlNames[n.GetXmlExpr().Op]
		return name, name != ""
	case n.GetXmlSerialize() != nil:
		return "xmlserialize", true
	case n.GetJsonParseExpr() != nil:
		return "json", true
	case n.GetJsonScalarExpr() != nil:
		return "json_scalar", true
	case n.GetJsonSerializeExpr() != nil:
		return "json_serialize", true
	case n.GetJsonObjectConstructor() != nil:
		return "json_object", true
	case n.GetJsonArrayConstructor() != nil, n.GetJsonArrayQueryConstructor() != nil:
		return "json_array", true
	case n.GetJsonObjectAgg() != nil:
		return "json_objectagg", true
	case n.GetJsonArrayAgg() != nil:
		return "json_arrayagg", true
	case n.GetJsonFuncExpr() != nil:
		name = jsonNames[n.GetJsonFuncExpr().Op]
		return name, name != ""
	case n.GetSqlvalueFunction() != nil:
		return valueFunctionNames[n.GetSqlvalueFunction().Op], true
	}
	return "", false
}

var xmlNames = map[pg.XmlExprOp]string{
	pg.XmlExprOp_IS_XMLCONCAT: "xmlconcat", pg.XmlExprOp_IS_XMLELEMENT: "xmlelement", pg.XmlExprOp_IS_XMLFOREST: "xmlforest",
	pg.XmlExprOp_IS_XMLPARSE: "xmlparse", pg.XmlExprOp_IS_XMLPI: "xmlpi", pg.XmlExprOp_IS_XMLROOT: "xmlroot",
}

var jsonNames = map[pg.JsonExprOp]string{
	pg.JsonExprOp_JSON_EXISTS_OP: "json_exists", pg.JsonExprOp_JSON_QUERY_OP: "json_query", pg.JsonExprOp_JSON_VALUE_OP: "json_value",
}

var valueFunctionNames = map[pg.SQLValueFunctionOp]string{
	pg.SQLValueFunctionOp_SVFOP_CURRENT_DATE: "current_date", pg.SQLValueFunctionOp_SVFOP_CURRENT_TIME: "current_time",
	pg.SQLValueFunctionOp_SVFOP_CURRENT_TIME_N: "current_time", pg.SQLValueFunctionOp_SVFOP_CURRENT_TIMESTAMP: "current_timestamp",
	pg.SQLValueFunctionOp_SVFOP_CURRENT_TIMESTAMP_N: "current_timestamp", pg.SQLValueFunctionOp_SVFOP_LOCALTIME: "localtime",
	pg.SQLValueFunctionOp_SVFOP_LOCALTIME_N: "localtime", pg.SQLValueFunctionOp_SVFOP_LOCALTIMESTAMP: "localtimestamp",
	pg.SQLValueFunctionOp_SVFOP_LOCALTIMESTAMP_N: "localtimestamp", pg.SQLValueFunctionOp_SVFOP_CURRENT_ROLE: "current_role",
	pg.SQLValueFunctionOp_SVFOP_CURRENT_USER: "current_user", pg.SQLValueFunctionOp_SVFOP_USER: "user",
	pg.SQLValueFunctionOp_SVFOP_SESSION_USER: "session_user", pg.SQLValueFunctionOp_SVFOP_CURRENT_CATALOG: "current_catalog",
	pg.SQLValueFunctionOp_SVFOP_CURRENT_SCHEMA: "current_schema",
}
