// The page at /docs: renders /openapi.json and lets people try /v1/embeddings.
// Everything that comes from data is set as text, never as markup.

const find = (id) => document.getElementById(id);

/** An element with attributes and children; texts become text nodes. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

/** A block of code with a button that copies it. */
function sample(text) {
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return make("div", { class: "sample" }, make("pre", {}, make("code", {}, text)), button);
}

const tableOf = (head, rows) =>
  make(
    "div",
    { class: "scroll" },
    make(
      "table",
      {},
      make("thead", {}, make("tr", {}, ...head.map((text) => make("th", {}, text)))),
      make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, cell))))),
    ),
  );

/** Looks schemas up by their $ref. */
const resolver = (document) => (schema) =>
  schema && schema.$ref ? document.components.schemas[schema.$ref.split("/").pop()] : schema;

/** A schema's type in a few words. */
function typeText(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return [...new Set(schema.anyOf.map(typeText).filter(Boolean))].join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.type === "array") return `list of ${typeText(schema.items || {})}`;
  return [].concat(schema.type || "any").filter((type) => type !== "null").join(" or ");
}

/** A schema's limits in a few words. */
function limitText(schema) {
  const found = [];
  for (const part of [schema, ...(schema.anyOf || [])]) {
    if (part.minimum !== undefined) found.push(`≥ ${part.minimum}`);
    if (part.maximum !== undefined) found.push(`≤ ${part.maximum}`);
    if (part.minItems !== undefined || part.maxItems !== undefined)
      found.push(`${part.minItems ?? 0} to ${part.maxItems ?? "any number of"} items`);
    if (part.maxLength !== undefined) found.push(`${part.minLength ?? 0} to ${part.maxLength} characters`);
  }
  return [...new Set(found)].join(", ");
}

/** The fields of an object, those of objects inside with dotted names. */
function fieldRows(schema, resolve, prefix = "") {
  const required = new Set(schema.required || []);
  const providers = [];
  const rows = Object.entries(schema.properties || {}).flatMap(([name, field]) => {
    const closed = (field.anyOf || []).find((part) => part.properties);
    if (closed) {
      providers.push(`${name}: ${Object.keys(closed.properties).join(", ")}`);
      return [];
    }
    const inner = resolve([field, ...(field.anyOf || [])].find((part) => part.$ref)) || {};
    const meaning = (required.has(name) ? "Required. " : "") + (field.description || inner.description || "");
    const row = [make("code", {}, prefix + name), typeText(field), limitText(field), meaning];
    const isShown = inner.properties && name !== "provider"; // which is the same as providerOptions.gateway
    return [row, ...(isShown ? fieldRows(inner, resolve, `${prefix}${name}.`) : [])];
  });
  if (providers.length)
    rows.push([make("code", {}, `${prefix}<provider>`), "object", "", `${providers.join("; ")}.`]);
  return rows;
}

function parameterRows(operation) {
  return (operation.parameters || []).map((parameter) => [
    make("code", {}, parameter.name),
    `${parameter.in} ${typeText(parameter.schema)}`,
    limitText(parameter.schema),
    `${parameter.required ? "Required. " : ""}Such as ${parameter.example}`,
  ]);
}

/** One route, folded. */
function renderRoute(path, method, operation, resolve) {
  const body = Object.values(operation.requestBody?.content ?? {})[0]?.schema;
  const rows = [...parameterRows(operation), ...(body ? fieldRows(resolve(body), resolve) : [])];
  const answers = Object.entries(operation.responses).map(([status, answer]) => {
    const [type, content] = Object.entries(answer.content || {})[0] || ["", {}];
    const schema = content.schema?.$ref ? typeText(content.schema) : type;
    return [make("code", {}, status), answer.description, schema];
  });
  const summary = make(
    "summary",
    {},
    make("span", { class: "method" }, method.toUpperCase()),
    " ",
    make("code", { class: "path" }, path),
    " ",
    make("span", { class: "quiet" }, operation.summary),
  );
  return make(
    "details",
    path === "/v1/embeddings" ? { open: "" } : {},
    summary,
    operation.description ? make("p", {}, operation.description) : null,
    make("p", { class: "quiet" }, operation.security ? "Needs a key, once one was created." : "Needs no key."),
    rows.length ? make("h3", {}, "Request") : null,
    rows.length ? tableOf(["field", "type", "limits", "meaning"], rows) : null,
    make("h3", {}, "Answers"),
    tableOf(["status", "what", "body"], answers),
  );
}

/** One row per code; the row's id is what doc_url points at. */
const renderError = (row) =>
  make(
    "tr",
    { id: row.code },
    make("td", {}, make("a", { href: `#${row.code}` }, make("code", {}, row.code))),
    make("td", {}, row.statuses.join(", ")),
    make("td", {}, row.when),
    make("td", {}, row.advice),
  );

function renderDocument(document) {
  find("version").textContent = document.info.version;
  find("about").textContent = document.info.description;
  const resolve = resolver(document);
  const routes = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => renderRoute(path, method, operation, resolve)),
  );
  find("route-list").replaceChildren(...routes);
  find("error-rows").replaceChildren(...document["x-error-codes"].map(renderError));
}

function renderSamples(model) {
  const base = `${location.origin}/v1`;
  const body = JSON.stringify({ model, input: "The quick brown fox" });
  find("base-url").replaceChildren(sample(`export OPENAI_BASE_URL=${base}\nexport OPENAI_API_KEY=any`));
  find("curl").replaceChildren(
    sample(`curl ${base}/embeddings \\\n  -H "Authorization: Bearer $OPENAI_API_KEY" \\\n  -H "Content-Type: application/json" \\\n  -d '${body}'`),
  );
  find("python").replaceChildren(
    sample(
      `from openai import OpenAI\n\nclient = OpenAI()  # reads the two variables above\n` +
        `answer = client.embeddings.create(model="${model}", input=["The quick brown fox"])\n` +
        `print(answer.data[0].embedding[:3])`,
    ),
  );
}

/** The lengths a model allows, its default first. */
function offerDimensions(model) {
  const { default: normal, allowed } = model.dimensions;
  const list = Array.isArray(allowed) ? allowed : [allowed.min, allowed.max];
  const options = [...new Set([normal, ...list])].map((width) => make("option", { value: width }, String(width)));
  find("dimensions").replaceChildren(...options);
}

function offerModels(models) {
  const served = models.filter((model) => model.available && model.type === "embedding");
  find("model").replaceChildren(...served.map((model) => make("option", { value: model.id }, model.id)));
  find("model").addEventListener("change", () =>
    offerDimensions(served.find((model) => model.id === find("model").value)),
  );
  if (served.length) offerDimensions(served[0]);
  return served.length ? served[0].id : "local/wordllama-256";
}

/** What an answer says, in a few lines. */
function describe(response, milliseconds, answer) {
  const head = `HTTP ${response.status} in ${milliseconds.toFixed(1)} ms`;
  if (!response.ok) return `${head}\n${JSON.stringify(answer, null, 2)}`;
  const vectors = answer.data.map((item) => {
    const numbers = item.embedding.slice(0, 8).map((number) => number.toFixed(5));
    return `input ${item.index}: [${numbers.join(", ")}, …] of ${item.embedding.length} numbers`;
  });
  const cost = response.headers.get("x-embedway-cost");
  const space = response.headers.get("x-embedway-space");
  return [head, ...vectors, `${answer.usage.total_tokens} tokens, ${cost} USD, space ${space}`].join("\n");
}

async function tryIt(event) {
  event.preventDefault();
  const button = event.target.querySelector("button");
  const headers = { "content-type": "application/json" };
  if (find("key").value) headers.authorization = `Bearer ${find("key").value}`;
  const body = JSON.stringify({
    model: find("model").value,
    input: find("input").value.split("\n").filter((line) => line !== ""),
    dimensions: Number(find("dimensions").value),
  });
  button.disabled = true;
  find("answer").hidden = false;
  try {
    const started = performance.now();
    const response = await fetch("/v1/embeddings", { method: "POST", headers, body });
    const answer = await response.json();
    find("answer").textContent = describe(response, performance.now() - started, answer);
  } catch (error) {
    find("answer").textContent = `No answer: ${error.message}`;
  } finally {
    button.disabled = false;
  }
}

async function fetchJson(path) {
  const response = await fetch(path);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error.message);
  return answer;
}

async function start() {
  renderSamples("local/wordllama-256");
  find("form").addEventListener("submit", tryIt);
  try {
    const [document_, models] = await Promise.all([fetchJson("/openapi.json"), fetchJson("/v1/models")]);
    renderDocument(document_);
    renderSamples(offerModels(models.data));
  } catch (error) {
    find("failure").textContent = `The page cannot be filled: ${error.message}`;
    find("failure").hidden = false;
    return;
  }
  // The row that the address names has only just come to be.
  if (location.hash) location.replace(location.hash);
}

start();
