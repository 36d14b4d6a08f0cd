// @ai-sdk/openai-compatible under AI SDK 7.
import { embed, embedMany } from 'ai7';
import { createOpenAICompatible } from 'compatible7';
import { main } from './cases.mjs';
import { casesOf } from './compatible_cases.mjs';

await main(casesOf({ embed, embedMany, createOpenAICompatible }));
