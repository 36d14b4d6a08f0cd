// @ai-sdk/openai-compatible under AI SDK 6.
import { embed, embedMany } from 'ai6';
import { createOpenAICompatible } from 'compatible6';
import { main } from './cases.mjs';
import { casesOf } from './compatible_cases.mjs';

await main(casesOf({ embed, embedMany, createOpenAICompatible }));
