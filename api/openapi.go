package api

import (
	"reflect"
	"strings"
	"time"
)

// openAPI describes the API as OpenAPI 3.1 has it, from the routes and the very types that are read and written.
func (s *Server) openAPI() map[string]any {
	schemas, paths := map[string]any{}, map[string]map[string]any{}
	failure := map[string]any{"description": "an error", "content": content(schemaOf(reflect.TypeFor[fault](), schemas))}
	for pattern, h := range s.routes() {
		method, path, _ := strings.Cut(pattern, " ")
		op := map[string]any{
			"summary": h.what, "description": "Needs a token with the scope " + h.scope + ".", "security": []any{map[string]any{"token": []string{}}},
			"responses": map[string]any{"200": map[string]any{"description": "OK", "content": content(schemaOf(reflect.TypeOf(h.answer), schemas))}, "default": failure},
		}
		if h.question != nil {
			op["requestBody"] = map[string]any{"required": true, "content": content(schemaOf(reflect.TypeOf(h.question), schemas))}
		}
		for part := range strings.SplitSeq(path, "/") {
			if name, ok := strings.CutPrefix(part, "{"); ok {
				others, _ := op["parameters"].([]any)
				op["parameters"] = append(others, map[string]any{"name": strings.TrimSuffix(name, "}"), "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
			}
		}
		if paths[path] == nil {
			paths[path] = map[string]any{}
		}
		paths[path][strings.ToLower(method)] = op
	}
	return map[string]any{
		"openapi": "3.1.0", "info": map[string]any{"title": "Wedge control API", "version": "1"}, "paths": paths,
		"components": map[string]any{"schemas": schemas, "securitySchemes": map[string]any{"token": map[string]any{"type": "http", "scheme": "bearer"}}},
	}
}

func content(schema any) map[string]any {
	return map[string]any{"application/json": map[string]any{"schema": schema}}
}

// schemaOf describes a type as JSON has it. Structs go into schemas under their names.
func schemaOf(t reflect.Type, schemas map[string]any) map[string]any {
	switch t.Kind() {
	case reflect.Pointer:
		return schemaOf(t.Elem(), schemas)
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), schemas)}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Struct:
	default:
		return map[string]any{"type": "integer"}
	}
	if t == reflect.TypeFor[time.Time]() {
		return map[string]any{"type": "string", "format": "date-time"}
	}
	if t.Name() == "" {
		return map[string]any{"type": "object"}
	}
	ref := map[string]any{"$ref": "#/components/schemas/" + t.Name()}
	if schemas[t.Name()] != nil {
		return ref
	}
	properties := map[string]any{}
	schemas[t.Name()] = map[string]any{"type": "object", "properties": properties}
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); f.IsExported() && name != "" && name != "-" {
			properties[name] = schemaOf(f.Type, schemas)
		}
	}
	return ref
}
