// openai-node, whichever major version is handed in: every way to ask that it has.
import { counted, describe, question } from './cases.mjs';

const { url, model, hello, three } = question;
const small = 'text-embedding-3-small';

export function casesOf(OpenAI) {
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any' });

  const read = (answer) => ({
    vectors: answer.data.map((item) => item.embedding),
    indexes: answer.data.map((item) => item.index),
    model: answer.model,
    usage: answer.usage,
    gateway: answer.providerMetadata.gateway,
    gateflow: answer.gateflow,
  });
  const create = async (fields = {}) =>
    read(await client.embeddings.create({ model, input: hello, ...fields }));

  const failing = async (fields, options = {}) => {
    const { calls, fetch } = counted();
    const other = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any', fetch, ...options });
    try {
      await other.embeddings.create({ model, input: hello, ...fields });
    } catch (error) {
      const is = Object.entries(OpenAI)
        .filter(([name, kind]) => name.endsWith('Error') && error instanceof kind)
        .map(([name]) => name);
      return { error: describe(error), is, requests: calls.length };
    }
    return { requests: calls.length };
  };

  return {
    default_string: () => create(),
    list: () => create({ input: three }),
    float: () => create({ encoding_format: 'float' }),
    list_float: () => create({ input: three, encoding_format: 'float' }),
    base64_explicit: () => create({ encoding_format: 'base64' }),
    token_ids: () => create({ input: question.hello_ids }),
    token_id_lists: () => create({ input: question.split_ids }),
    dimensions_user: () => create({ dimensions: 64, user: 'u-1' }),
    model_bare: () => create({ model: model.split('/')[1] }),
    model_prefixed: () => create({ model: `openai/${small}` }),
    extra_fields_gateflow: () =>
      create({
        gateflow: { cache: 'skip' },
        providerOptions: { google: { taskType: 'RETRIEVAL_QUERY' } },
      }),
    fallback_used: () =>
      create({ model: small, input: question.fails, gateflow: { fallbacks: [model] } }),
    undefined_and_null_fields: () => create({ dimensions: null, user: undefined }),
    headers_and_query: async () => {
      const options = { headers: { 'x-tenant': 't1' }, query: { q: '1' } };
      return read(await client.embeddings.create({ model, input: hello }, options));
    },
    withResponse: async () => {
      const request = client.embeddings.create({ model, input: hello });
      const { data, response, request_id } = await request.withResponse();
      const headers = Object.fromEntries(response.headers);
      return { ...read(data), status: response.status, headers, request_id };
    },
    models_list: async () => {
      const ids = [];
      for await (const found of client.models.list()) ids.push(found.id);
      return { ids };
    },
    models_retrieve: async () => ({ model: await client.models.retrieve(model) }),
    base_url_trailing_slash: async () => {
      const other = new OpenAI({ baseURL: `${url}/v1/`, apiKey: 'any' });
      return read(await other.embeddings.create({ model, input: hello }));
    },
    base_url_without_v1: async () => {
      const other = new OpenAI({ baseURL: url, apiKey: 'any' });
      return read(await other.embeddings.create({ model, input: hello }));
    },
    many_at_once: async () => {
      const inputs = Array.from({ length: 50 }, (_, i) => `caller ${i}`);
      const ask = (input) => client.embeddings.create({ model, input });
      const answers = await Promise.all(inputs.map(ask));
      return { vectors: answers.map((answer) => answer.data[0].embedding) };
    },
    with_a_key: async () => {
      const other = new OpenAI({ baseURL: `${question.keyed_url}/v1`, apiKey: question.key });
      return read(await other.embeddings.create({ model, input: hello }));
    },
    wrong_key: () => failing({}, { baseURL: `${question.keyed_url}/v1`, apiKey: 'gw_prod_no_no' }),
    empty_string: () => failing({ input: '' }),
    empty_list: () => failing({ input: [] }),
    unknown_model: () => failing({ model: 'nobody/nothing' }),
    wrong_dimensions: () => failing({ dimensions: 100 }),
    big_body: () => failing({ input: 'x'.repeat(11_000_000) }),
    upstream_fails: () => failing({ model: small, input: question.fails }),
    upstream_limits: () => failing({ model: small, input: question.limits }),
  };
}
